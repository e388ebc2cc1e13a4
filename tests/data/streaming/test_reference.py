"""Reference tables: replaced when their content changes, left alone when it does not."""

import pyarrow as pa
import pytest

import rayplat as rp
from rayplat.core.errors import UserError
from rayplat.core.events import Event, EventBus, SnapshotCommitted
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.streaming.reference import content_digest, ingest_reference


def planes(rows: pa.Table) -> Table:
    project = rp.Project("flights", owner="ops@example.com")
    return project.table(
        "raw.planes",
        columns={"tailnum": "string", "year": "int64"},
        key="tailnum",
        source=rp.Reference(lambda: rows),
        checks=[rp.in_range("year", 1900, 2100)],
    )


ROWS = pa.table({"year": [1999, None], "tailnum": ["N1", "N2"], "unused": [0, 0]})


def test_written_once_until_it_changes(lake: Lakehouse) -> None:
    seen: list[Event] = []
    bus = EventBus()
    bus.subscribe(SnapshotCommitted, seen.append)
    first = ingest_reference(lake, planes(ROWS), bus)
    again = ingest_reference(lake, planes(pa.concat_tables([ROWS.slice(0, 1), ROWS.slice(1)])), bus)
    changed = ingest_reference(lake, planes(ROWS.slice(1)), bus)
    assert (first.rows, again.rows, changed.rows) == (2, 0, 1)
    assert again.snapshots == ()
    assert lake.table("raw.planes").read().to_pylist() == [{"tailnum": "N2", "year": None}]
    assert [e.snapshot_id for e in seen if isinstance(e, SnapshotCommitted)] == [
        *first.snapshots,
        *changed.snapshots,
    ]


def test_values_are_cast_to_what_is_declared(lake: Lakehouse) -> None:
    rows = pa.table({"tailnum": pa.array(["N1"], pa.large_string()), "year": pa.array([1999.0])})
    ingest_reference(lake, planes(rows), EventBus())
    assert lake.table("raw.planes").read().to_pylist() == [{"tailnum": "N1", "year": 1999}]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS.drop_columns(["year"]), "lack the columns year"),
        (ROWS.set_column(0, "year", pa.array([1999.5, 1.0])), "cannot become what is declared"),
        (ROWS.set_column(0, "year", pa.array([1999, 5])), "1 of 2 rows .* year is not in .* 'N2'"),
        (ROWS.set_column(1, "tailnum", pa.array(["N1", None])), "tailnum is missing"),
    ],
)
def test_bad_content_leaves_the_table_as_it_was(lake: Lakehouse, rows: pa.Table, reason: str) -> None:
    ingest_reference(lake, planes(ROWS), EventBus())
    with pytest.raises(UserError, match=reason):
        ingest_reference(lake, planes(rows), EventBus())
    assert lake.table("raw.planes").count() == 2


def test_a_function_that_fails_is_named(lake: Lakehouse) -> None:
    table = planes(ROWS)
    broken = Table(
        **{f: getattr(table, f) for f in table.__slots__} | {"source": rp.Reference(lambda: 1 / 0)}
    )
    with pytest.raises(UserError, match=r"raw\.planes failed: ZeroDivisionError"):
        ingest_reference(lake, broken, EventBus())


def test_the_digest_is_of_names_types_values_and_order() -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", None]})
    assert content_digest(rows) == content_digest(pa.concat_tables([rows.slice(0, 1), rows.slice(1)]))
    others = [
        rows.slice(0, 1),
        rows.take([1, 0]),
        rows.rename_columns(["a", "c"]),
        rows.set_column(0, "a", pa.array([1, 2], pa.int32())),
        rows.set_column(1, "b", pa.array(["x", ""])),
    ]
    assert len({content_digest(rows), *map(content_digest, others)}) == 6
