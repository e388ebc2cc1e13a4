"""Reconciliation: it holds for what an ingest has done, and each real discrepancy is told."""

from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pytest

from rayplat.core.errors import NotFoundError
from rayplat.core.events import EventBus
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.reconcile import Reconciliation, reconcile
from rayplat.data.quality.replay import replay
from tests.data.quality.aside_world import NAME, Ingest, decode, order, orders

ROWS = pa.schema(
    [("id", pa.string()), ("amount", pa.float64()), ("_partition", pa.int32()), ("_offset", pa.int64())]
)
QUARANTINE = "quarantine.raw_orders"


@pytest.fixture
def ingest(lake: Lakehouse) -> Ingest:
    ingest = Ingest(lake, orders())
    ingest.round({0: [order(1), order(2, 500), b"junk"], 1: [order(3)]})
    return ingest


def told(proof: Reconciliation) -> dict[str, tuple[int, int]]:
    return {d.what: (d.expected, d.found) for d in proof.discrepancies}


def row(partition: int, offset: int) -> pa.Table:
    return pa.table([["x"], [1.0], [partition], [offset]], schema=ROWS)


def test_it_holds(lake: Lakehouse, ingest: Ingest) -> None:
    proof = reconcile(lake, NAME)
    assert told(proof) == {}
    assert (proof.holds, proof.received, proof.accepted, proof.rows, proof.rounds) == (True, 4, 2, 2, 1)
    with pytest.raises(NotFoundError):
        reconcile(lake, "raw.nothing")


def test_a_table_that_was_never_fed(lake: Lakehouse) -> None:
    lake.ensure_schema("raw.hand", pa.schema([("x", pa.int64())]))
    assert reconcile(lake, "raw.hand").holds
    lake.table("raw.hand").append(pa.table({"x": [1]}))
    proof = reconcile(lake, "raw.hand")
    assert (proof.holds, proof.rows, proof.untold) == (True, 1, 1)


@pytest.mark.parametrize(
    ("lie", "what"),
    [
        ({"received": 9}, "what became of the records of snapshot"),
        ({"quarantined": 0, "received": 1}, "records in the quarantine table"),
        ({"dead": 1, "received": 3}, "records in the dead table"),
        ({"accepted": 0, "received": 1}, "rows that the rounds added, beside what they accepted"),
    ],
)
def test_counts_that_lie(lake: Lakehouse, ingest: Ingest, lie: dict[str, int], what: str) -> None:
    ingest.round({0: [order(4), order(5, 500)]}, told=lie)
    proof = reconcile(lake, NAME)
    assert not proof.holds
    assert any(found.startswith(what) for found in told(proof))


def doubled(lake: Lakehouse) -> None:
    lake.table(NAME).append(row(0, 0))


def of_the_quarantine(lake: Lakehouse) -> None:
    lake.table(NAME).append(row(0, 1))


def beyond(lake: Lakehouse) -> None:
    lake.table(NAME).append(row(1, 7))


def set_aside_twice(lake: Lakehouse) -> None:
    lake.table(QUARANTINE).append(lake.table(QUARANTINE).read())


def lost(lake: Lakehouse) -> None:
    lake.table(QUARANTINE).overwrite(lake.table(QUARANTINE).read().slice(0, 0))


def set_aside_in_two(lake: Lakehouse) -> None:
    both = lake.table("dead.raw_orders").read().drop(["key", "headers"])
    lake.table(QUARANTINE).append(both.cast(lake.table(QUARANTINE).schema()))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (doubled, {"rows whose partition and offset another row has": (0, 1)}),
        (of_the_quarantine, {"records that are rows, and set aside as well": (0, 1)}),
        (beyond, {"offset of the last row of partition 1, at most": (0, 7)}),
        (
            set_aside_twice,
            {
                "records in the quarantine table": (1, 2),
                "records that are in the quarantine table more than once": (0, 1),
            },
        ),
        (lost, {"records in the quarantine table": (1, 0)}),
        (
            set_aside_in_two,
            {"records in the quarantine table": (1, 2), "records that are in two side tables": (0, 1)},
        ),
    ],
)
def test_rows_that_are_not_as_told(
    lake: Lakehouse, ingest: Ingest, spoil: Callable[[Lakehouse], None], expected: dict[str, tuple[int, int]]
) -> None:
    spoil(lake)
    proof = reconcile(lake, NAME)
    assert told(proof) == expected
    assert not proof.holds


def test_replayed_rows_that_are_gone(lake: Lakehouse, ingest: Ingest) -> None:
    replay(lake, orders(most=1000), decode, EventBus())
    marks = lake.table("quarantine_replays.raw_orders")
    marks.append(marks.read().set_column(3, "offset", pa.array(["77"])))
    found = told(reconcile(lake, NAME))
    assert found["marks of replayed records"] == (1, 2)
    assert found["replayed records that were never set aside"] == (0, 1)
    assert found["replayed records that are rows"] == (2, 1)


def test_offsets_of_any_length(lake: Lakehouse) -> None:
    """Kinesis: partitions are shards, offsets have 56 digits and are compared as numbers."""
    from rayplat.data.quality.side_tables import identities

    side = lake.ensure_schema(
        "dead.raw_k", pa.schema([(n, pa.string()) for n in ("source", "partition", "offset")])
    )
    big = 49590338271490256608559692538361571095921575989136588898
    side.append(
        pa.table({"source": ["k"] * 3, "partition": ["s"] * 3, "offset": ["9", str(big), str(big + 1)]})
    )
    found = identities(lake, "dead", "raw.k", {"k": {"s": big + 1}})
    assert found.settled["offset"].to_list() == ["9", str(big)]
    assert found.in_flight["offset"].to_list() == [str(big + 1)]
    assert isinstance(found.settled, pl.DataFrame)
