"""A state machine over source, catalog and clock: whatever happens in any order, every record counts once.

Hypothesis chooses the order of events and shrinks it where a promise breaks. A crash is an exception that
nothing in the product may catch; `test_ingest_kill` does the same with real kills.
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rayplat as rp
from rayplat.core.errors import ConflictError, IntegrityError
from rayplat.core.events import EventBus
from rayplat.core.settings import IngestSettings, Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.data.lakehouse.maintenance.compact import Compaction
from rayplat.data.lakehouse.maintenance.expire import Expiry
from rayplat.data.lakehouse.maintenance.plan import Lifetime
from rayplat.data.lakehouse.pins import Pins
from rayplat.data.streaming.executor import InlineExecutor
from rayplat.data.streaming.feed import Feed
from rayplat.data.streaming.ledger import CRASH_POINTS
from rayplat.data.streaming.report import dead_name, late_name, quarantine_name
from rayplat.data.streaming.sources.source import ENDED
from tests.data.worlds import BAD, departures
from tests.faults.losses import CrashError, LosesOne, die_at
from tests.faults.memory_topic import MemorySource, MemoryTopic

BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
ALLOWED = timedelta(minutes=10)
TABLE = replace(departures(), late=rp.Late(ALLOWED, "side"))
COUNTS = ("accepted", "quarantined", "dead", "late", "ignored")

kinds = st.sampled_from(["good", "good", "good", "again", "late", "bad", "none"])
points = st.sampled_from(CRASH_POINTS)


class LakeMachine(RuleBasedStateMachine):
    """One table fed by a topic, and everything that may happen to either."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="rayplat-machine-")
        self.settings = Settings(home=Path(self.folder.name)).model_copy(
            update={"ingest": IngestSettings(batch_rows=5)}
        )
        self.lake = Lakehouse(self.settings)
        self.topic = MemoryTopic(2, "first")
        self.clock = BEGIN
        self.number = 0
        self.before: dict[str, int] = {}

    def teardown(self) -> None:
        try:
            self.ingest()
            committed = self.committed()
            for partition, values in self.topic.values.items():
                assert committed.get(str(partition), 0) == len(values), "something was not read"
            self.every_record_once()
        finally:
            self.lake.close()
            self.folder.cleanup()

    # What the world does.

    @initialize(counts=st.lists(kinds, max_size=8))
    def begin(self, counts: list[str]) -> None:
        self.produce(0, counts)

    @rule(partition=st.integers(0, 3), told=st.lists(kinds, min_size=1, max_size=12))
    def produce(self, partition: int, told: list[str]) -> None:
        self.topic.produce(partition % len(self.topic.values), [self.record(kind) for kind in told])

    @rule(minutes=st.integers(1, 60))
    def time_goes_on(self, minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)

    @precondition(lambda self: len(self.topic.values) < 4)
    @rule()
    def more_partitions(self) -> None:
        self.topic.add_partition()

    @rule(partition=st.integers(0, 3), part=st.floats(0, 1))
    def retention_passes_what_was_read(self, partition: int, part: float) -> None:
        partition %= len(self.topic.values)
        self.topic.low[partition] = max(
            self.topic.low[partition], int(part * self.committed().get(str(partition), 0))
        )

    # What the platform does, and what goes wrong with it.

    @rule()
    def ingest(self) -> None:
        self.run(self.feed())

    @rule(point=points, times=st.integers(1, 3))
    def crash(self, point: str, times: int) -> None:
        left = [times]

        def die(now: str) -> None:
            left[0] -= now == point
            if not left[0] and now == point:
                raise CrashError(point)

        with suppress(CrashError):
            self.run(self.feed(die))

    @rule(point=points, ours=st.booleans())
    def another_driver_in_between(self, point: str, ours: bool) -> None:
        """It reads the same records while the first one stands still: one of them is refused."""
        done: list[str] = []

        def meanwhile(now: str) -> None:
            if now == point and not done:
                done.append(now)
                self.run(self.feed())
                if ours:
                    self.produce(0, ["good"])

        try:
            self.run(self.feed(meanwhile))
        except ConflictError:
            assert done, "nobody else was there"

    @rule()
    def an_acknowledgement_is_lost(self) -> None:
        feed = self.feed()
        attempt = LosesOne()
        feed.ledger.good = FencedCommitter(self.lake, TABLE.name, feed.name, attempt=attempt)
        self.run(feed)
        have = [snapshot.snapshot_id for snapshot in self.lake.table(TABLE.name).history()]
        assert list(feed.ledger.snapshots) == have[len(have) - len(feed.ledger.snapshots) :]
        assert (attempt.lost > 0) == bool(feed.ledger.snapshots)

    @rule(partition=st.integers(0, 3), gap=st.integers(1, 3))
    def retention_passes_what_was_not_read(self, partition: int, gap: int) -> None:
        """A hard error that loses nothing: when the records are restored, all goes on."""
        partition %= len(self.topic.values)
        at = self.committed().get(str(partition))
        if at is None or at + gap > len(self.topic.values[partition]):
            return
        kept, self.topic.low[partition] = self.topic.low[partition], at + gap
        with pytest.raises(IntegrityError, match=f"{gap} records were removed before they were read"):
            self.run(self.feed())
        self.topic.low[partition] = kept

    @precondition(lambda self: bool(self.committed()))
    @rule(longer=st.booleans())
    def the_topic_is_made_anew(self, longer: bool) -> None:
        """Also one that is longer already: its offsets mean other records."""
        kept, self.topic = self.topic, MemoryTopic(len(self.topic.values), "second")
        if longer:
            for partition, values in kept.values.items():
                self.topic.produce(partition, [b"{}"] * (len(values) + 1))
        with pytest.raises(IntegrityError, match="made anew"):
            self.run(self.feed())
        self.topic = kept

    @precondition(lambda self: self.lake.exists(TABLE.name))
    @rule(killed=st.sampled_from(["", "planned", "rewritten", "committed"]))
    def compaction(self, killed: str) -> None:
        before = self.rows()
        with suppress(CrashError):
            Compaction(self.lake.table(TABLE.name), step=partial(die_at, killed)).compact()
        assert self.rows() == before

    @precondition(lambda self: self.lake.exists(TABLE.name))
    @rule(
        days=st.integers(0, 60),
        killed=st.sampled_from(["", "", "sentenced", "archived", "dropped", "expired", "deleted"]),
    )
    def expiry(self, days: int, killed: str) -> None:
        pins = Pins(self.settings)
        before = self.rows()
        expiry = Expiry(pins, lifetime=Lifetime(timedelta(0), keep_last=2), step=partial(die_at, killed))
        with suppress(CrashError):
            expiry.expire(self.lake.table(TABLE.name), datetime.now(UTC) + timedelta(days=days))
        pins.close()
        assert self.rows() == before

    # What always holds.

    @invariant()
    def every_record_once(self) -> None:
        """What is behind the committed offsets has one verdict, and nothing has two."""
        committed = self.committed()
        for partition, offset in self.before.items():
            assert offset <= committed.get(partition, 0), "offsets went back"
        self.before = committed
        if not self.lake.exists(TABLE.name):
            return
        good = [(row["_partition"], row["_offset"]) for row in self.rows()]
        verdicts = sorted([*good, *self.aside()])
        assert len(verdicts) == len(set(verdicts)), "a record has two verdicts"
        behind = [(int(p), o) for p, end in committed.items() for o in range(end)]
        assert [v for v in verdicts if v[1] < committed.get(str(v[0]), 0)] == sorted(behind)
        assert all(o < committed[str(p)] < ENDED for p, o in good), "rows beyond the committed offsets"
        told = self.topic.everything()
        for row in self.rows():
            value = json.loads(told[row["_partition"], row["_offset"]] or b"{}")
            assert row["flight_id"] == value["flight_id"], "a row is not what its record says"

    @invariant()
    def the_sums_hold(self) -> None:
        """For every snapshot, expired ones included, and for all of them together."""
        if not self.lake.exists(TABLE.name):
            return
        received = 0
        for snapshot in self.lake.table(TABLE.name).history():
            told = snapshot.properties
            if "rayplat.received" in told:
                parts = [int(told[f"rayplat.{name}"]) for name in COUNTS]
                assert sum(parts) == int(told["rayplat.received"]), told
                received += sum(parts)
        assert received == sum(self.committed().values())

    # How it is looked at and driven.

    def feed(self, on_point: Callable[[str], None] = lambda _point: None) -> Feed:
        return Feed(
            self.lake,
            TABLE,
            self.settings,
            EventBus(),
            on_point=on_point,
            open_source=lambda: MemorySource(self.topic),
        )

    def run(self, feed: Feed) -> None:
        """One pass over what the topic holds now."""
        feed.on_point("before_write")
        plans = feed.plans(MemorySource(self.topic).watermarks())
        for batches in InlineExecutor().run(plans):
            feed.commit(batches)

    def record(self, kind: str) -> bytes | None:
        if kind == "none":
            return None
        if kind == "bad":
            return BAD[self.number % len(BAD)]
        self.number += kind != "again"
        at = self.clock - (ALLOWED + timedelta(hours=1) if kind == "late" else timedelta())
        value = {"flight_id": f"UA{self.number}", "scheduled_at": at.isoformat(), "distance": 5}
        return json.dumps(value).encode()

    def committed(self) -> dict[str, int]:
        there = self.lake.exists(TABLE.name)
        return FencedCommitter(self.lake, TABLE.name, MemorySource.name).committed() if there else {}

    def rows(self) -> list[dict[str, Any]]:
        columns = ["flight_id", "_partition", "_offset"]
        rows = self.lake.table(TABLE.name).read(columns).to_pylist()
        return sorted(rows, key=lambda row: (row["_partition"], row["_offset"]))

    def aside(self) -> list[tuple[int, int]]:
        places: list[tuple[int, int]] = []
        for name in (quarantine_name(TABLE), dead_name(TABLE)):
            if self.lake.exists(name):
                rows = self.lake.table(name).read(["partition", "offset"]).to_pylist()
                places += [(int(row["partition"]), int(row["offset"])) for row in rows]
        if self.lake.exists(late_name(TABLE)):
            rows = self.lake.table(late_name(TABLE)).read(["_partition", "_offset"]).to_pylist()
            places += [(row["_partition"], row["_offset"]) for row in rows]
        return places


# Without shrinking, which takes many minutes here: a failure is printed with the blob that repeats it.
_COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),
}


class TestLakeMachine(LakeMachine.TestCase):
    """A few orders of events, in every run of the tests."""

    settings = settings(max_examples=10, stateful_step_count=14, **_COMMON)


@pytest.mark.slow
class TestLakeMachineLong(LakeMachine.TestCase):
    """Many orders of events."""

    settings = settings(max_examples=50, stateful_step_count=30, **_COMMON)
