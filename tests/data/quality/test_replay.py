"""Quarantine and replay: what is set aside is listed, mended, and becomes rows exactly once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

import rayplat as rp
from rayplat.core.errors import ConflictError, NotFoundError, UserError
from rayplat.core.events import EventBus, SnapshotCommitted
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.quality.mended import read_mended
from rayplat.data.quality.quarantine import list_aside, show_aside
from rayplat.data.quality.reconcile import reconcile
from rayplat.data.quality.replay import CRASH_POINTS, replay
from tests.data.quality.aside_world import NAME, Ingest, decode, order, orders, stored


@pytest.fixture
def ingest(lake: Lakehouse) -> Ingest:
    """Two rounds: o1 and o5 are good, o2 and o6 cost too much, one record is junk, one lacks its amount."""
    ingest = Ingest(lake, orders())
    ingest.round({0: [order(1), order(2, 500), b"junk"], 1: [order(3, None)]})
    ingest.round({0: [order(5), order(6, 700)]})
    return ingest


def test_what_is_set_aside_is_listed_and_shown(lake: Lakehouse, ingest: Ingest) -> None:
    found = {aside.kind: aside for aside in list_aside(lake)}
    assert found["quarantine"].reasons == {"amount is not in [0, 100]": 2, "amount is missing": 1}
    assert (found["quarantine"].table, found["quarantine"].open, found["dead"].open) == (NAME, 3, 1)
    assert list(found["dead"].reasons) == ["not JSON"]
    shown = show_aside(lake, NAME, 10)
    assert [(r.partition, r.offset, r.kind) for r in shown] == [
        ("0", "1", "quarantine"),
        ("0", "2", "dead"),
        ("0", "4", "quarantine"),
        ("1", "0", "quarantine"),
    ]
    assert [r.record for r in shown][:2] == [{"id": "o2", "amount": 500}, "junk"]
    assert len(show_aside(lake, NAME, 1)) == 1
    assert [r.record["id"] for r in show_aside(lake, NAME, 9, "is missing")] == ["o3"]
    with pytest.raises(NotFoundError):
        show_aside(lake, "raw.nothing", 1)


def test_a_mended_contract_brings_rows_back_once(lake: Lakehouse, ingest: Ingest) -> None:
    seen: list[SnapshotCommitted] = []
    bus = EventBus()
    bus.subscribe(SnapshotCommitted, seen.append)
    report = replay(lake, orders(most=600), decode, bus)
    assert (report.replayed, report.bad) == (1, 3)
    assert report.reasons == {"not JSON": 1, "amount is not in [0, 600]": 1, "amount is missing": 1}
    assert stored(lake) == [("o1", 0, 0), ("o2", 0, 1), ("o5", 0, 3)]
    assert [(e.source, e.rows, e.offsets) for e in seen] == [("replay:kafka:orders", 1, {"records": 1})]
    assert replay(lake, orders(most=600), decode, bus).replayed == 0
    assert replay(lake, orders(most=1000), decode, bus).replayed == 1
    assert stored(lake) == [("o1", 0, 0), ("o2", 0, 1), ("o5", 0, 3), ("o6", 0, 4)]
    listed = {aside.kind: (aside.open, aside.replayed) for aside in list_aside(lake, NAME)}
    assert listed == {"quarantine": (1, 2), "dead": (1, 0)}
    proof = reconcile(lake, NAME)
    assert proof.holds, proof.discrepancies
    assert (proof.received, proof.accepted, proof.quarantined, proof.dead) == (6, 2, 3, 1)
    assert (proof.replayed, proof.open, proof.rows) == (2, 2, 4)
    assert lake.table(NAME).history()[-1].source == "replay:kafka:orders"


def test_the_offsets_of_the_ingest_stay_what_they_are(lake: Lakehouse, ingest: Ingest) -> None:
    replay(lake, orders(most=1000), decode, EventBus())
    ingest.round({0: [order(7)], 1: [order(8), order(9, 999)]})
    assert stored(lake)[-2:] == [("o7", 0, 5), ("o8", 1, 1)]
    assert replay(lake, orders(most=1000), decode, EventBus()).replayed == 1
    assert reconcile(lake, NAME).holds


def test_mended_records_by_file(lake: Lakehouse, ingest: Ingest, tmp_path: Path) -> None:
    file = tmp_path / "mended.ndjson"
    file.write_text(
        '{"_partition": 0, "_offset": 2, "id": "o2b", "amount": 1}\n\n'
        '{"_partition": "1", "_offset": "0", "id": "o3", "amount": 9999}\n'
    )
    report = replay(lake, orders(), decode, EventBus(), mended=read_mended(file))
    assert (report.replayed, report.bad) == (1, 1)
    assert stored(lake) == [("o1", 0, 0), ("o2b", 0, 2), ("o5", 0, 3)]
    with pytest.raises(
        NotFoundError, match=r"1 mended records are not in the quarantine of raw\.orders: 0/2"
    ):
        replay(lake, orders(), decode, EventBus(), mended=read_mended(file))
    assert reconcile(lake, NAME).holds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no record"),
        ("x\n", "1 is not JSON"),
        ('\n{"_offset": 1}\n', "2 does not say which record"),
        (
            '{"_partition": 0, "_offset": 1}\n{"_partition": "0", "_offset": "1"}',
            "2: record 0/1 is there twice",
        ),
    ],
)
def test_a_file_of_mended_records_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "m").write_text(text)
    with pytest.raises(UserError, match=told):
        read_mended(tmp_path / "m")
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_mended(tmp_path / "no")


def test_table_checks_hold_for_replayed_rows(lake: Lakehouse, ingest: Ingest) -> None:
    ingest.round({0: [order(1, 800)]})
    table = orders(most=1000, checks=[rp.unique("id")])
    report = replay(lake, table, decode, EventBus())
    assert report.reasons["id is there already"] == 1
    assert [name for name, _, _ in stored(lake)] == ["o1", "o2", "o5", "o6"]
    ingest.round({0: [order(2, 900)]})
    with pytest.raises(UserError, match=r"nothing was committed to raw\.orders"):
        replay(lake, orders(most=1000, checks=[rp.unique("id", "stop")]), decode, EventBus())


def test_only_records_with_the_reason(lake: Lakehouse, ingest: Ingest) -> None:
    assert replay(lake, orders(most=1000), decode, EventBus(), reason="is missing").replayed == 0
    assert replay(lake, orders(most=1000), decode, EventBus(), reason="not in").replayed == 2


def test_a_round_that_died_is_left_to_the_ingest(lake: Lakehouse, ingest: Ingest) -> None:
    ingest.round({0: [order(8, 500), order(9)]}, die=True)
    assert replay(lake, orders(most=1000), decode, EventBus()).replayed == 2
    assert {aside.kind: aside.in_flight for aside in list_aside(lake)} == {"quarantine": 1, "dead": 0}
    proof = reconcile(lake, NAME)
    assert (proof.holds, proof.in_flight) == (True, 1)


class CrashError(BaseException):
    """Stands for a kill: nothing in the product may catch it."""


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_anywhere_and_again(lake: Lakehouse, ingest: Ingest, point: str) -> None:
    def on_point(here: str) -> None:
        if here == point:
            raise CrashError(here)

    for _ in range(2 if point != "after_commit" else 1):
        with pytest.raises(CrashError):
            replay(lake, orders(most=1000), decode, EventBus(), on_point=on_point)
    left = replay(lake, orders(most=1000), decode, EventBus()).replayed
    assert left == (0 if point == "after_commit" else 2)
    assert [name for name, _, _ in stored(lake)] == ["o1", "o2", "o5", "o6"]
    assert reconcile(lake, NAME).holds


def test_of_two_replays_at_once_one_wins(lake: Lakehouse, ingest: Ingest) -> None:
    def on_point(here: str) -> None:
        if here == "after_marks":
            replay(lake, orders(most=1000), decode, EventBus())

    with pytest.raises(ConflictError):
        replay(lake, orders(most=1000), decode, EventBus(), on_point=on_point)
    assert [name for name, _, _ in stored(lake)] == ["o1", "o2", "o5", "o6"]
    assert reconcile(lake, NAME).holds


@dataclass(frozen=True)
class Changes:
    """Decoded change envelopes."""

    frame: pl.DataFrame
    rows: Sequence[int]
    bad: Mapping[int, str]


def decode_changes(values: Sequence[bytes | None]) -> Changes:
    """Records of JSON with an `_op`."""
    records = [json.loads(value or b"{}") for value in values]
    schema = {"id": pl.String, "amount": pl.Float64, "_op": pl.String}
    return Changes(pl.DataFrame(records, schema=schema), range(len(values)), {})


def test_changes_by_key_are_merged(lake: Lakehouse) -> None:
    """A replayed change is older than what is stored where its offset is: it must not win."""
    table = replace(orders(), mode="upsert")
    ingest = Ingest(lake, table)
    ingest.round({0: [order(1, 500), order(2, 600), order(4), order(2), order(9, 700)]})
    assert [name for name, _, _ in stored(lake)] == ["o2", "o4"]
    mended = {
        ("0", "0"): b'{"id": "o1", "amount": 50, "_op": "upsert"}',
        ("0", "1"): b'{"id": "o2", "amount": 60, "_op": "upsert"}',
        ("0", "4"): b'{"id": "o4", "_op": "delete"}',
    }
    report = replay(lake, table, decode_changes, EventBus(), mended=mended)
    assert (report.replayed, report.bad) == (3, 0)
    assert stored(lake) == [("o1", 0, 0), ("o2", 0, 3)]
    assert replay(lake, table, decode, EventBus()).replayed == 0
    proof = reconcile(lake, NAME)
    assert proof.holds, proof.discrepancies


def test_a_merge_is_planned_again_when_an_ingest_was_faster(lake: Lakehouse) -> None:
    table = replace(orders(most=1000), mode="upsert")
    ingest = Ingest(lake, replace(orders(), mode="upsert"))
    ingest.round({0: [order(1, 500), order(2)]})
    calls = []

    def on_point(here: str) -> None:
        if here == "after_write" and not calls:
            calls.append(here)
            ingest.round({0: [order(1, 7)]})  # a later record of the same key comes in between

    assert replay(lake, table, decode, EventBus(), on_point=on_point).replayed == 1
    assert calls
    assert stored(lake) == [("o1", 0, 2), ("o2", 0, 1)]
