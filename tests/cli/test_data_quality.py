import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayplat.cli.command import group
from rayplat.cli.data_quality import add
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from tests.cli.conftest import Ran
from tests.data.quality.aside_world import NAME, Ingest, order, orders

Run = Callable[..., Ran]
PROJECT = """
import rayplat as rp
shop = rp.Project("shop", owner="ops@example.com")
shop.table(
    "raw.orders",
    key="id",
    columns={
        "id": rp.Column("string", nullable=False, pii=True),
        "amount": rp.Column("float64", nullable=False),
    },
    source=rp.Kafka("orders"),
    checks=[rp.in_range("amount", 0, 1000)],
)
"""


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lakehouse]:
    """Four records: two are rows, one costs too much, one is junk; and a project that allows the price."""
    lake = Lakehouse(Settings(home=tmp_path / "home"))
    Ingest(lake, orders()).round({0: [order(1), order(2, 500), b"junk"], 1: [order(3)]})
    (tmp_path / "shop.py").write_text(PROJECT)
    yield lake
    lake.close()


@pytest.fixture
def data(lake: Lakehouse, rayplat: Run, tmp_path: Path) -> Run:
    """`rayplat data …` with these commands alone, on that lake."""
    app = group("data")
    add(app)

    def run(*args: str) -> Ran:
        result = CliRunner().invoke(app, [*args, "--home", str(tmp_path / "home")])
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


def test_quarantine_list_and_show(data: Run) -> None:
    found = {row["kind"]: row for row in data("quarantine", "list", "-o", "json").data}
    assert found["quarantine"]["reasons"] == {"amount is not in [0, 100]": 1}
    assert (found["dead"]["table"], found["dead"]["open"]) == (NAME, 1)
    shown = data("quarantine", "show", NAME, "-o", "json").data
    assert [(r["offset"], r["record"]) for r in shown] == [("1", {"id": "o2", "amount": 500}), ("2", "junk")]
    assert "amount is not in [0, 100]" in data("quarantine", "show", NAME).out
    assert data("quarantine", "show", "raw.nothing", "-o", "json").error["exit_code"] == 3


def test_replay_with_a_mended_contract_and_with_mended_rows(
    data: Run, tmp_path: Path, lake: Lakehouse
) -> None:
    report = data("quarantine", "replay", "shop.py", NAME, "-o", "json").data
    assert (report["replayed"], report["bad"], report["reasons"]) == (1, 1, {"not JSON": 1})
    (tmp_path / "m.ndjson").write_text('{"_partition": 0, "_offset": 2, "id": "o9", "amount": 1}\n')
    assert (
        data("quarantine", "replay", "shop.py", NAME, "--from", "m.ndjson", "-o", "json").data["replayed"]
        == 1
    )
    again = data("quarantine", "replay", "shop.py", NAME, "--from", "m.ndjson", "-o", "json")
    assert again.error["exit_code"] == 3
    assert data("quarantine", "replay", "shop.py", "raw.other", "-o", "json").error["exit_code"] == 3
    assert sorted(lake.table(NAME).read(["id"])["id"].to_pylist()) == ["o1", "o2", "o3", "o9"]


def test_reconcile_proves_or_fails(data: Run, lake: Lakehouse) -> None:
    proof = data("reconcile", NAME, "-o", "json").data
    assert (proof["holds"], proof["received"], proof["accepted"], proof["open"]) == (True, 4, 2, 2)
    assert "everything adds up" in data("reconcile", NAME).out
    lake.table(NAME).append(lake.table(NAME).read().slice(0, 1))
    failed = data("reconcile", NAME, "-o", "json")
    assert failed.code == 1
    assert [d["found"] for d in failed.data["discrepancies"]] == [1]
    assert "it does not add up" in data("reconcile", NAME).out


def test_profile_hides_personal_data_and_writes_a_page(data: Run, tmp_path: Path) -> None:
    open_ = data("profile", NAME, "-o", "json").data
    assert [(c["name"], c["least"]) for c in open_["columns"]] == [("id", "o1"), ("amount", 5.0)]
    ran = data("profile", NAME, "--project", "shop.py", "--page", "out.html", "-o", "json")
    assert [(c["name"], c["least"]) for c in ran.data["columns"]] == [("id", None), ("amount", 5.0)]
    assert "personal data" in (tmp_path / "out.html").read_text()
    assert "raw.orders: 2 rows" in data("profile", NAME).out
    assert data("profile", NAME, "--snapshot", "5", "-o", "json").error["exit_code"] == 3
    assert json.dumps(open_["columns"][1]["histogram"]["counts"]) == "[2]"
