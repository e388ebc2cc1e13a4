"""Profiles of tables: one pass over the files, whatever their age, inline and on Ray."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import NotFoundError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.table import LakeTable
from rayplat.data.profile.executor import InlineExecutor, RayExecutor
from rayplat.data.profile.page import write_page
from rayplat.data.profile.profile import profile
from rayplat.data.profile.words import share, sparkline, value


def rows(first: int, count: int) -> pa.Table:
    return pa.table(
        {
            "id": [f"r{i}" for i in range(first, first + count)],
            "kind": ["<b>" if i % 3 else "y" for i in range(first, first + count)],
            "x": np.arange(first, first + count, dtype=np.float64),
        }
    )


@pytest.fixture
def table(lake: Lakehouse) -> LakeTable:
    """Three files of 1,000 rows."""
    schema = pa.schema([("id", pa.string()), ("kind", pa.string()), ("x", pa.float64())])
    table = lake.ensure_schema("raw.demo", schema)
    for part in range(3):
        table.append(rows(part * 1000, 1000))
    return table


def test_a_table(table: LakeTable) -> None:
    done = []
    found = profile(table, advance=done.append)
    assert (found.rows, found.files, found.snapshot_id) == (3000, 3, table.snapshot_id())
    assert done == [1, 1, 1]
    by_name = {column.name: column for column in found.columns}
    assert list(by_name) == ["id", "kind", "x"]
    assert (by_name["id"].distinct, by_name["id"].distinct_exact) == (3000, True)
    assert [(t.value, t.count) for t in by_name["kind"].top] == [("<b>", 2000), ("y", 1000)]
    assert (by_name["x"].least, by_name["x"].greatest, by_name["x"].mean) == (0, 2999, 1499.5)


def test_an_earlier_snapshot_some_columns_and_hidden_ones(table: LakeTable) -> None:
    first = table.history()[0].snapshot_id
    found = profile(table, snapshot_id=first, columns=["x", "id"], hidden=["id"])
    assert (found.rows, [c.name for c in found.columns]) == (1000, ["x", "id"])
    assert (found.columns[0].greatest, found.columns[1].least) == (999, None)
    with pytest.raises(NotFoundError, match="no column y"):
        profile(table, columns=["y"])
    with pytest.raises(NotFoundError, match="no snapshot 7"):
        profile(table, snapshot_id=7)


def test_an_empty_table(lake: Lakehouse, tmp_path: Path) -> None:
    table = lake.ensure_schema("raw.empty", pa.schema([("x", pa.int64())]))
    found = profile(table)
    assert (found.rows, found.columns, found.snapshot_id) == (0, (), None)
    assert write_page(found, tmp_path / "p.html").exists()


def test_files_that_are_older_than_a_column(lake: Lakehouse) -> None:
    old = lake.ensure_schema("raw.demo", pa.schema([("x", pa.int64())]))
    old.append(pa.table({"x": [1, 2]}))
    new = lake.ensure_schema("raw.demo", pa.schema([("x", pa.int64()), ("y", pa.string())]))
    new.append(pa.table({"x": [3], "y": ["a"]}))
    x, y = profile(new).columns
    assert (x.rows, x.nulls, x.greatest) == (3, 0, 3)
    assert (y.rows, y.nulls, y.distinct) == (3, 2, 1)


def test_columns_that_the_table_says_are_personal(lake: Lakehouse) -> None:
    project = rp.Project("p", owner="a@example.com")
    columns = {"id": "string", "mail": rp.Column("string", pii=True)}
    table = lake.ensure(project.table("raw.people", columns=columns, key="id"))
    table.append(pa.table({"id": ["1"], "mail": ["ann@example.com"]}))
    found = profile(table)
    assert [column.hidden for column in found.columns] == [False, True]
    assert "ann" not in repr(found)


@pytest.mark.ray
# Ray's own settings warn of one another when they are first made.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
def test_on_ray_data_it_is_the_same(table: LakeTable, ray_session: Settings) -> None:
    inline, tasks = (profile(table, executor=e) for e in (InlineExecutor(), RayExecutor()))
    for here, there in zip(inline.columns, tasks.columns, strict=True):
        assert (here.name, here.rows, here.distinct, here.top) == (
            there.name,
            there.rows,
            there.distinct,
            there.top,
        )
        assert (here.least, here.greatest) == (there.least, there.greatest)
    medians = [found.columns[2].quantiles["p50"] for found in (inline, tasks) if found.columns[2].quantiles]
    assert medians == pytest.approx([1500, 1500], abs=60)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.bars = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bars += tag == "rect"
        self.links += [text for name, text in attrs if name in ("src", "href") and text]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(table: LakeTable, tmp_path: Path) -> None:
    text = write_page(profile(table, hidden=["id"]), tmp_path / "out" / "page.html").read_text()
    page = _Page()
    page.feed(text)
    assert (page.open, page.links) == ([], [])
    assert page.bars == 24
    assert "&lt;b&gt;" in text
    assert "personal data" in text
    assert "r2999" not in text


def test_words() -> None:
    assert [value(v) for v in (None, True, 1234567, 0.000125, 1234.5, 3.0, b"\x01", "x" * 50)] == [
        "-",
        "true",
        "1,234,567",
        "0.000125",
        "1,234.50",
        "3",
        "01",
        "x" * 39 + "…",
    ]
    assert [share(*s) for s in ((0, 9), (1, 9000), (8999, 9000), (1, 2), (9, 9), (0, 0))] == [
        "0 %",
        "< 0.1 %",
        "> 99.9 %",
        "50.0 %",
        "100 %",
        "0 %",
    ]
    assert sparkline([0, 1, 16, 8]) == " ▁█▅"
    assert sparkline([0, 0]) == ""
