"""`data plan` and `data apply`: what they tell, what they change, and how they end."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from rayplat.cli.command import group
from rayplat.cli.data_schema import add
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse

PROJECT = """
import rayplat as rp

project = rp.Project("shop", owner="ops@example.com")
orders = project.table("raw.orders", key="id", columns={COLUMNS}, partition_by="bucket(4, id)")
"""
SCHEMA = pa.schema([("x", pa.int64())])
FIRST = '{"id": "int64", "city": "string"}'

app = group("Tables.")
add(app)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(home: Path, verb: str, columns: str, *more: str) -> tuple[int, Any]:
    # A name of its own each time: a module is loaded once in a process.
    file = home.parent / f"shop_{abs(hash((columns, more)))}.py"
    file.write_text(PROJECT.replace("{COLUMNS}", columns))
    result = CliRunner().invoke(app, [verb, str(file), "--home", str(home), *more])
    return result.exit_code, json.loads(result.stdout) if "json" in more else result.stdout


def test_a_plan_changes_nothing_and_apply_makes_it(home: Path) -> None:
    code, told = run(home, "plan", FIRST, "-o", "json")
    assert (code, told["applied"], told["refused"]) == (0, False, False)
    assert told["tables"] == [
        {
            "table": "raw.orders",
            "steps": [{"kind": "create", "subject": "", "what": "create it with 2 columns"}],
            "refused": [],
        }
    ]
    lake = Lakehouse(Settings(home=home))
    assert lake.names() == []
    code, told = run(home, "apply", FIRST, "-o", "json")
    assert (code, told["applied"]) == (0, True)
    assert lake.names() == ["raw.orders"]
    code, text = run(home, "plan", FIRST)
    assert code == 0
    assert "0 of 1 tables would be changed" in text
    lake.close()


def test_dropping_needs_to_be_allowed(home: Path) -> None:
    run(home, "apply", FIRST)
    fewer = '{"id": "int64", "more": "date"}'
    code, told = run(home, "apply", fewer, "-o", "json")
    assert (code, told["applied"], told["refused"]) == (1, False, True)
    assert told["tables"][0]["refused"] == [
        "city is in the table and no longer declared (--allow-drop drops it)"
    ]
    code, text = run(home, "plan", fewer)
    assert code == 1
    assert "cannot become what is declared: nothing was changed" in text
    code, text = run(home, "apply", fewer, "--allow-drop")
    assert code == 0
    assert "drop column city" in text
    assert "1 of 1 tables were changed" in text
    lake = Lakehouse(Settings(home=home))
    assert lake.table("raw.orders").schema().names == ["id", "more"]
    lake.close()


def test_tables_that_are_not_declared_are_listed(home: Path) -> None:
    lake = Lakehouse(Settings(home=home))
    lake.ensure_schema("raw.old", SCHEMA)
    lake.ensure_schema("quarantine.raw_orders", SCHEMA)
    code, told = run(home, "apply", FIRST, "-o", "json")
    assert (code, told["undeclared"]) == (0, ["raw.old"])
    code, text = run(home, "plan", FIRST)
    assert "raw.old" in text
    assert lake.exists("raw.old")
    lake.close()
