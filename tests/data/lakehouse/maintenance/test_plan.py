"""Plans: which files are packed, which snapshots have had their time, and what an ingest still needs."""

import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rayplat.data.lakehouse.head import SnapshotRecord
from rayplat.data.lakehouse.maintenance.plan import Bin, Lifetime, Packing, anchored, plan_bins, plan_expiry
from rayplat.data.lakehouse.reachable import NamedFile

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def file(number: int, size: int, partition: Mapping[str, Any] | None = None, spec_id: int = 0) -> NamedFile:
    return NamedFile(f"f{number}", 10, size, 0, spec_id, partition or {}, number, {}, {})


def by_age(one: NamedFile) -> int:
    return one.sequence


def packed(files: list[NamedFile], packing: Packing) -> list[list[str]]:
    bins = plan_bins(files, packing, by_age)
    return [[f.path for f in one.files] for mine in bins.values() for one in mine]


def test_small_files_fill_bins_in_order_and_large_ones_stay() -> None:
    files = [file(5, 100), file(4, 10), file(3, 60), file(2, 40), file(1, 80), file(0, 40)]
    assert packed(files, Packing(100, 2)) == [["f0", "f2"], ["f3", "f4"]]


def test_a_partition_is_never_mixed_with_another() -> None:
    files = [file(i, 10, {"day": i % 2}, spec_id=i // 4) for i in range(8)]
    bins = plan_bins(files, Packing(100, 2), by_age)
    assert {key: [f.path for f in one.files] for key, (one,) in bins.items()} == {
        (0, (("day", 0),)): ["f0", "f2"],
        (0, (("day", 1),)): ["f1", "f3"],
        (1, (("day", 0),)): ["f4", "f6"],
        (1, (("day", 1),)): ["f5", "f7"],
    }


def test_few_files_are_left_alone_unless_they_are_long_together() -> None:
    assert packed([file(0, 10), file(1, 10)], Packing(100, 3)) == []
    assert packed([file(0, 40), file(1, 40)], Packing(100, 3)) == [["f0", "f1"]]
    assert packed([file(0, 99)], Packing(100, 1)) == []
    assert packed([file(0, 99)], Packing(100, 5, everything=True)) == [["f0"]]


@pytest.mark.parametrize("seed", range(20))
def test_every_file_is_packed_at_most_once_and_no_bin_is_too_large(seed: int) -> None:
    rng = random.Random(seed)
    files = [file(i, rng.randint(1, 120), {"p": rng.randint(0, 3)}) for i in range(100)]
    bins: list[Bin] = [one for mine in plan_bins(files, Packing(100, 2), by_age).values() for one in mine]
    taken = [f.path for one in bins for f in one.files]
    assert len(taken) == len(set(taken))
    assert all(one.size <= 100 and len(one.files) > 1 for one in bins)
    assert all({tuple(f.partition.items()) for f in one.files} == {one.partition} for one in bins)


def snapshot(number: int, age: timedelta, source: str = "", carried: str = "") -> SnapshotRecord:
    told = {"rayplat.source": source, "rayplat.offsets": '{"0": 1}'} if source else {}
    if carried:
        told["rayplat.carried-offsets"] = json.dumps({carried: {"0": 1}})
    at = (NOW - age).timestamp() * 1000
    return {"snapshot-id": number, "timestamp-ms": int(at), "summary": told}


def days(*ages: float) -> list[SnapshotRecord]:
    return [snapshot(number, timedelta(days=age)) for number, age in enumerate(ages)]


def test_age_counts_from_when_a_snapshot_was_followed() -> None:
    line = days(9, 8, 7, 3, 0)
    lifetime = Lifetime(timedelta(days=5), keep_last=1)
    assert plan_expiry(line, (), NOW, lifetime) == [0, 1], "2 was the current one until three days ago"
    assert plan_expiry(line, {0}, NOW, lifetime) == [1]


def test_the_last_ones_are_kept_however_old() -> None:
    line = days(9, 8, 7, 6.5, 6)
    assert plan_expiry(line, (), NOW, Lifetime(timedelta(days=5), keep_last=3)) == [0, 1]
    assert plan_expiry(line, (), NOW, Lifetime(timedelta(days=5), keep_last=9)) == []
    assert plan_expiry(line, (), NOW, Lifetime(timedelta(0), 0)) == [0, 1, 2, 3], "never the last"
    assert plan_expiry([], (), NOW, Lifetime()) == []


def test_keep_last_counts_what_is_needed_anyway() -> None:
    line = days(9, 8, 7, 6.5, 6)
    assert plan_expiry(line, {0}, NOW, Lifetime(timedelta(days=5), keep_last=4)) == []
    assert plan_expiry(line, {0}, NOW, Lifetime(timedelta(days=5), keep_last=3)) == [1]


def test_the_grace_is_the_shortest_age() -> None:
    line = days(2, 1, 0.01, 0)
    assert plan_expiry(line, (), NOW, Lifetime(timedelta(0), 1)) == [0]
    assert plan_expiry(line, (), NOW, Lifetime(timedelta(0), 1, timedelta(0))) == [0, 1, 2]


def test_what_an_ingest_goes_on_from_stays_with_all_that_leads_to_it() -> None:
    hour = timedelta(hours=1)
    line = [snapshot(5, hour), snapshot(4, hour, "a"), snapshot(3, hour), snapshot(2, hour, "b")]
    assert anchored([*line, snapshot(1, hour, "a")]) == {5, 4, 3, 2}
    assert anchored([snapshot(9, hour, "a", carried="b"), *line]) == {9}
    assert anchored([snapshot(1, hour)]) == set()
