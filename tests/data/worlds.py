"""Small worlds: a declared table, its records, and the ways to put them on a topic and to count them."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from confluent_kafka import Producer

import rayplat as rp
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse

BEGIN = 1_356_998_400_000_000
"""2013-01-01T00:00:00Z, microseconds."""
TABLE = "raw.departures"
QUARANTINE = "quarantine.raw_departures"
DEAD = "dead.raw_departures"


def departures(
    partitions: int = 2,
    replay: Callable[[], pa.Table] | None = None,
    checks: Sequence[rp.Check] | None = None,
) -> Table:
    project = rp.Project("flights", owner="ops@example.com")
    return project.table(
        TABLE,
        columns={
            "flight_id": "string",
            "scheduled_at": "timestamp",
            "distance": rp.Column("int64", nullable=False, unit="mi"),
            "delay": "float64",
            "cancelled": "bool",
        },
        key="flight_id",
        event_time="scheduled_at",
        source=rp.Kafka("departures", partitions, replay),
        checks=[rp.in_range("distance", 1, 6000)] if checks is None else checks,
    )


def recording(events: int) -> pa.Table:
    """A recorded world: one event a second, in an order of its own."""
    order = list(range(events))
    random.Random(7).shuffle(order)
    return pa.table(
        {
            "flight_id": [f"UA{i}" for i in order],
            "scheduled_at": pa.array([BEGIN + i * 1_000_000 for i in order], pa.timestamp("us", "UTC")),
            "distance": [i % 5000 + 1 for i in order],
            "delay": [None if i % 7 == 0 else i / 2 for i in order],
            "cancelled": [i % 3 == 0 for i in order],
        }
    )


def record(number: int) -> bytes:
    """A good record."""
    value = {
        "flight_id": f"UA{number}",
        "scheduled_at": "2013-01-01T05:00:00Z",
        "distance": number % 5000 + 1,
        "delay": 1.5,
        "cancelled": False,
    }
    return json.dumps(value).encode()


BAD = (
    b"\xff\x00 not JSON",
    b'{"flight_id": "x", "scheduled_at": "yesterday", "distance": 5}',
    b'{"flight_id": "x", "scheduled_at": "2013-01-01T05:00:00Z", "distance": "far"}',
    b'{"flight_id": "x", "scheduled_at": "2013-01-01T05:00:00Z"}',
    b'{"flight_id": "x", "scheduled_at": "2013-01-01T05:00:00Z", "distance": 60000}',
    b"null",
)
"""One of each kind: junk, wrong time, wrong type, missing column, failed check, no object."""


def mixture(count: int, seed: int) -> list[bytes]:
    """Good records with bad ones among them, and every tenth told twice."""
    rng = random.Random(seed)
    values = [rng.choice(BAD) if rng.random() < 0.1 else record(i) for i in range(count)]
    return [value for i, value in enumerate(values) for _ in range(2 if i % 10 == 0 else 1)]


def produce(bootstrap: str, topic: str, partition: int, values: Sequence[bytes | None]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0})
    for value in values:
        producer.produce(topic, value, b"key", partition)
    assert producer.flush(10) == 0


@dataclass(frozen=True)
class Received:
    """What the lakehouse has, by (partition, offset); bad: quarantined or dead."""

    good: list[tuple[int, int]]
    bad: list[tuple[int, int]]

    def check(self, expected: dict[int, int]) -> None:
        """Every offset of every partition is there once, in exactly one of the tables."""
        every = sorted([*self.good, *self.bad])
        assert len(every) == len(set(every)), "a record is there twice"
        assert every == [(p, o) for p in sorted(expected) for o in range(expected[p])]


def received(lake: Lakehouse) -> Received:
    good = lake.table(TABLE).read(["_partition", "_offset"]).to_pylist()
    bad = [
        row
        for name in (QUARANTINE, DEAD)
        for row in lake.table(name).read(["partition", "offset"]).to_pylist()
    ]
    return Received(
        [(row["_partition"], row["_offset"]) for row in good],
        [(int(row["partition"]), int(row["offset"])) for row in bad],
    )
