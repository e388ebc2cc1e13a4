from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from tests.cli.conftest import Ran

Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path) -> str:
    """A lake with one table of two snapshots."""
    lake = Lakehouse(Settings(home=tmp_path / "home"))
    one = lake.ensure_schema("raw.demo", pa.schema([("k", pa.string()), ("v", pa.float64())]))
    one.append(pa.table({"k": ["a", "b"], "v": [1.0, None]}))
    one.append(pa.table({"k": ["c"], "v": [3.0]}))
    lake.close()
    return str(tmp_path / "home")


def test_tables_rows_and_history(rayplat: Run, home: str) -> None:
    (row,) = rayplat("data", "tables", "--home", home, "-o", "json").data
    history = rayplat("data", "history", "raw.demo", "--home", home, "-o", "json").data
    assert (row["table"], row["rows"]) == ("raw.demo", 3)
    assert [snapshot["rows_total"] for snapshot in history] == [2, 3]
    assert history[-1]["snapshot_id"] == row["snapshot_id"]


def test_show_bounds_filters_and_travels_in_time(rayplat: Run, home: str) -> None:
    def show(*more: str) -> Ran:
        return rayplat("data", "show", "raw.demo", "--home", home, *more)

    assert len(show("--rows", "2", "-o", "json").data["head"]) == 2
    assert show("--where", "k = 'b'", "-o", "json").data["head"] == [{"k": "b", "v": None}]
    first = rayplat("data", "history", "raw.demo", "--home", home, "-o", "json").data[0]["snapshot_id"]
    assert show("--snapshot", str(first), "-o", "json").data["rows"] == 2
    text = show().out
    assert "3 rows" in text
    assert "double" in text
    assert show("--where", "k = ", "-o", "json").error["exit_code"] == 2
    assert show("--snapshot", "1", "-o", "json").error["exit_code"] == 3
