"""From a topic to rows that can be queried: how fast, how fresh, and in how much memory.

Run: .venv/bin/python benchmarks/ingest.py [--json] [--quick]

The work: JSON records of about 120 bytes on 2 partitions. rayplat does it with every promise on: row checks,
quarantine and dead letters, SHA-256 and page checksums, synced files, fenced offsets, a commit every
100,000 records or 250 ms. The peers do less: `ray` is `ray.data.read_kafka` alone, nothing written;
`pyiceberg` is the plain loop of confluent-kafka, Polars and pyiceberg, with a commit every 100,000 records
and no checks. The limit is consuming alone, a process a partition.

The broker is librdkafka's mock cluster in a process of its own, and the records come from another. It keeps
about the last 5 MB a partition as sent, so a backlog is produced with zstd, the same for all; what it still
has is read by each candidate in turn. Freshness and memory are measured on a paced stream. A record says when
it was made (`at`): freshness is the time from then until its snapshot is committed, for every record. All
use the cores that they find, broker and generator included.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from harness import Claim, interleave, main

HERE = Path(__file__).resolve()
TOPIC = "events"
PARTITIONS = 2
BACKLOG, BACKLOG_QUICK = 1_200_000, 400_000
COMMIT_ROWS = 100_000
RATE = 100_000
SOAK, SOAK_QUICK = 10_000_000, 500_000
COLUMNS = {
    "event_id": "string",
    "at": "timestamp",
    "origin": "string",
    "distance": "int64",
    "delay": "float64",
    "cancelled": "bool",
}


def table() -> Any:
    """The declaration of the table."""
    import rayplat as rp

    required = ("event_id", "at", "distance")
    project = rp.Project("bench", owner="bench@example.com")
    return project.table(
        "raw.events",
        columns={name: rp.Column(kind, nullable=name not in required) for name, kind in COLUMNS.items()},
        key="event_id",
        event_time="at",
        source=rp.Kafka(TOPIC, PARTITIONS),
        checks=[rp.in_range("distance", 1, 6000)],
    )


def record(number: int, at: str) -> bytes:
    """One record, about 120 bytes."""
    return b'{"event_id":"event-%010d","at":"%s","origin":"%s","distance":%d,"delay":%d.5,"cancelled":%s}' % (
        number,
        at.encode(),
        (b"JFK", b"LGA", b"EWR")[number % 3],
        number % 5000 + 1,
        number % 97,
        b"true" if number % 50 == 0 else b"false",
    )


def serve_broker() -> None:
    """The broker's process: prints its address, and ends with its standard input."""
    from rayplat.data.streaming.development.mock_cluster import MockCluster

    with MockCluster() as cluster:
        cluster.create(TOPIC, PARTITIONS)
        print(cluster.bootstrap, flush=True)
        sys.stdin.read()


def generate(bootstrap: str, count: int, rate: int) -> None:
    """The generator's process: `count` records, `rate` a second (0: as fast as it can)."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5 if rate else 100,
            "batch.num.messages": 10_000,
            "batch.size": 1_000_000,
            "compression.type": "zstd",
            "queue.buffering.max.messages": 500_000,
            "log_level": 0,
        }
    )
    step = rate // 100 if rate else 10_000
    begin = time.perf_counter()
    for first in range(0, count, step):
        if rate:
            time.sleep(max(0.0, begin + first / rate - time.perf_counter()))
        now = time.time()
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        for number in range(first, min(first + step, count)):
            producer.produce(TOPIC, record(number, at), None, number % PARTITIONS)
        producer.poll(0)
        while len(producer) > 400_000:
            producer.poll(0.01)
    producer.flush()


@contextmanager
def broker() -> Iterator[str]:
    """A fresh broker in a process of its own."""
    argv = [sys.executable, str(HERE), "broker"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(10)


def generator(bootstrap: str, count: int, rate: int = 0) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, str(HERE), "generate", bootstrap, str(count), str(rate)])


@contextmanager
def service(settings: Any, **more: Any) -> Iterator[list[tuple[float, float, Any]]]:
    """The ingest service on Ray; yields its commits as (perf_counter, unix time, event)."""
    from rayplat.core.events import EventBus, SnapshotCommitted
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.data.streaming.service import IngestService

    commits: list[tuple[float, float, Any]] = []
    bus = EventBus()
    bus.subscribe(SnapshotCommitted, lambda e: commits.append((time.perf_counter(), time.time(), e)))
    served = IngestService(Lakehouse(settings), settings, bus, **more)
    errors: list[BaseException] = []

    def feed() -> None:
        try:
            served.feed([table()])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield commits
    finally:
        served.stop()
        thread.join()
    if errors:
        raise errors[0]


def settings_for(platform: Any, home: str, bootstrap: str) -> Any:
    from rayplat.core.settings import IngestSettings, KafkaSettings, Settings

    return Settings.model_validate(
        {
            "home": home,
            "ray": platform.ray,
            "kafka": KafkaSettings(bootstrap=bootstrap),
            "ingest": IngestSettings(
                batch_rows=COMMIT_ROWS // PARTITIONS, trigger_rows=COMMIT_ROWS, trigger_s=0.25
            ),
        }
    )


def wait_until(condition: Any, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.005)


def offsets_done(commits: list[tuple[float, float, Any]], highs: dict[str, int]) -> bool:
    return bool(commits) and all(commits[-1][2].offsets.get(p, 0) >= high for p, high in highs.items())


def marks(bootstrap: str) -> dict[int, Any]:
    from rayplat.data.streaming.sources.kafka import KafkaSource

    with KafkaSource(bootstrap, TOPIC) as source:
        return dict(source.watermarks())


def rayplat_rate(platform: Any, bootstrap: str) -> float:
    """Records a second of a service that runs already, over a backlog that it is shown at once.

    Its readers are warm: they have read a first few records. What counts is from the moment when the
    backlog may be seen until the last of it is committed.
    """
    held = marks(bootstrap)
    warm = {p: mark.low + 2_000 for p, mark in held.items()}
    with tempfile.TemporaryDirectory() as home:
        gate = Path(home) / "open"
        opener = _Gated(bootstrap, str(gate), warm)
        settings = settings_for(platform, f"{home}/lake", bootstrap)
        with service(settings, open_source=opener) as commits:
            wait_until(lambda: offsets_done(commits, {str(p): n for p, n in warm.items()}), 60, "the warm-up")
            before = len(commits)
            begin = time.perf_counter()
            gate.touch()
            highs = {str(p): mark.high for p, mark in held.items()}
            wait_until(lambda: offsets_done(commits, highs), 60, "the backlog")
            seconds = commits[-1][0] - begin
            rows = sum(event.rows for _, _, event in commits[before:])
    expected = sum(mark.high - warm[p] for p, mark in held.items())
    assert rows == expected, f"{rows} rows of {expected} records"
    return rows / seconds


class _Gated:
    """Opens the topic, of which only the first few records may be seen until a file is there."""

    def __init__(self, bootstrap: str, gate: str, warm: dict[int, int]) -> None:
        self.bootstrap, self.gate, self.warm = bootstrap, gate, warm

    def __call__(self) -> Any:
        from rayplat.data.streaming.sources.kafka import KafkaSource
        from rayplat.data.streaming.sources.source import Watermarks

        source = KafkaSource(self.bootstrap, TOPIC)
        every, gate, warm = source.watermarks, Path(self.gate), self.warm

        def seen() -> dict[int, Watermarks]:
            found = every()
            if gate.exists():
                return found
            return {p: Watermarks(mark.low, warm[p]) for p, mark in found.items()}

        source.watermarks = seen
        return source


def pyiceberg_rate(bootstrap: str) -> float:
    """The plain loop: consume, parse, append; a commit every 100,000 records."""
    import polars as pl
    from confluent_kafka import Consumer, TopicPartition
    from pyiceberg.catalog.sql import SqlCatalog

    held = marks(bootstrap)
    schema = {
        "event_id": pl.String, "at": pl.String, "origin": pl.String,
        "distance": pl.Int64, "delay": pl.Float64, "cancelled": pl.Boolean,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as home:
        catalog = SqlCatalog("peer", uri=f"sqlite:///{home}/catalog.db", warehouse=f"file://{home}")
        catalog.create_namespace("raw")
        stored: Any = None
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "peer",
                "queued.min.messages": 200_000,
                "fetch.queue.backoff.ms": 2,
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(TOPIC, p, mark.low) for p, mark in held.items()])
        left = sum(mark.high - mark.low for mark in held.values())
        total, values, begin = left, [], time.perf_counter()
        while left:
            values += [m.value() for m in consumer.consume(10_000, 0.1) if m.error() is None]
            if len(values) >= min(COMMIT_ROWS, left):
                frame = pl.read_ndjson(b"\n".join(values), schema=schema)
                times = pl.col("at").str.to_datetime(time_unit="us", time_zone="UTC")
                rows = frame.with_columns(times).to_arrow(compat_level=pl.CompatLevel.oldest())
                stored = stored or catalog.create_table("raw.events", rows.schema)
                stored.append(rows)
                left, values = left - len(values), []
        seconds = time.perf_counter() - begin
        consumer.close()
        catalog.engine.dispose()
    return total / seconds


def ray_rate(bootstrap: str) -> float:
    """`ray.data.read_kafka` alone: its rows are counted, and nothing is written."""
    import ray

    held = marks(bootstrap)
    begin = time.perf_counter()
    read = ray.data.read_kafka(
        TOPIC,
        bootstrap_servers=bootstrap,
        start_offset="earliest",
        end_offset="latest",
    )
    rows = sum(block.num_rows for block in read.iter_batches(batch_size=None, batch_format="pyarrow"))
    seconds = time.perf_counter() - begin
    if rows < 0.99 * sum(mark.high - mark.low for mark in held.values()):
        print(f"ray.data.read_kafka gave {rows} rows", file=sys.stderr)
    return rows / seconds


def consume_only(bootstrap: str, partition: int) -> None:
    """The limit: one partition consumed, nothing done with it; prints records and seconds."""
    from confluent_kafka import Consumer, TopicPartition

    mark = marks(bootstrap)[partition]
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "limit", "queued.min.messages": 200_000,
         "fetch.queue.backoff.ms": 2, "enable.auto.commit": False}
    )  # fmt: skip
    consumer.assign([TopicPartition(TOPIC, partition, mark.low)])
    left, begin = mark.high - mark.low, time.perf_counter()
    while left > 0:
        left -= len(consumer.consume(10_000, 0.1))
    print(json.dumps([mark.high - mark.low, time.perf_counter() - begin]), flush=True)
    os._exit(0)


def limit(bootstrap: str) -> float:
    argv = [sys.executable, str(HERE), "consume", bootstrap]
    running = [
        subprocess.Popen([*argv, str(p)], stdout=subprocess.PIPE, text=True) for p in range(PARTITIONS)
    ]
    told = [json.loads(process.communicate()[0]) for process in running]
    return sum(n for n, _ in told) / max(s for _, s in told)


def throughput(platform: Any, backlog: int, runs: int, within_s: float | None) -> Claim:
    with broker() as bootstrap:
        assert generator(bootstrap, backlog).wait() == 0
        candidates = {
            "rayplat": lambda: rayplat_rate(platform, bootstrap),
            "ray": lambda: ray_rate(bootstrap),
            "pyiceberg": lambda: pyiceberg_rate(bootstrap),
        }
        samples = interleave(candidates, runs, within_s)
        most = limit(bootstrap)
    ours = samples.pop("rayplat")
    return Claim("ingest_records_per_s", "records/s", ours, samples, higher_is_better=True, limit=most)


def stream(platform: Any, count: int) -> list[Claim]:
    """A paced stream: freshness of every record, and how memory grows from its first third to its last."""
    from rayplat.data.lakehouse.catalog import Lakehouse

    with broker() as bootstrap, tempfile.TemporaryDirectory() as home:
        settings = settings_for(platform, home, bootstrap)
        samples: list[tuple[int, float]] = []
        with service(settings) as commits:
            assert generator(bootstrap, 20_000, RATE).wait() == 0  # the readers start
            wait_until(lambda: sum(e.rows for _, _, e in commits) == 20_000, 60, "the warm-up")
            warm = len(commits)
            feeding = generator(bootstrap, count, RATE)
            while (taken := sum(e.rows for _, _, e in commits[warm:])) < count:
                if feeding.poll() not in (None, 0):
                    raise SystemExit("the generator failed")
                samples.append((taken, _memory()))
                time.sleep(0.25)
        lake = Lakehouse(settings)
        p99 = _freshness(lake, commits[warm:])
        lake.close()
    memory = np.array([used for taken, used in samples if taken > count / 10])
    third = max(1, len(memory) // 3)
    growth = float(np.median(memory[-third:]) / np.median(memory[:third]))
    note = f"{count:,} records at {RATE:,}/s"
    return [
        Claim("ingest_freshness_p99_s", "s", [p99], note=note),
        Claim("ingest_rss_growth", "ratio, last third over first", [growth], limit=1.0, note=note),
    ]


def _memory() -> float:
    """Proportional set size of this process and of the readers, bytes."""
    total = 0.0
    for process in psutil.process_iter(["name", "cmdline"]):
        title = " ".join(process.info["cmdline"] or [])
        if process.pid == os.getpid() or title.startswith("ray::Reader"):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
    return total


def _freshness(lake: Any, commits: Sequence[tuple[float, float, Any]]) -> float:
    """The 99th percentile over records of the time from `at` to the commit, s."""
    rows = lake.table("raw.events").read(["at", "_partition", "_offset"])
    at = rows["at"].cast("int64").to_numpy() / 1e6
    partition, offset = rows["_partition"].to_numpy(), rows["_offset"].to_numpy()
    ages = []
    for p in range(PARTITIONS):
        ends = np.array([event.offsets.get(str(p), 0) for _, _, event in commits])
        times = np.array([when for _, when, _ in commits])
        mine = partition == p
        which = np.searchsorted(ends, offset[mine], side="right")
        known = (which < len(times)) & (offset[mine] >= 20_000 // PARTITIONS)
        ages.append(times[which[known]] - at[mine][known])
    return float(np.percentile(np.concatenate(ages), 99))


def measure(quick: bool) -> Sequence[Claim]:
    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings

    with tempfile.TemporaryDirectory(prefix="rayplat-bench-") as home:
        platform = Settings.model_validate(
            {"home": home, "ray": {"cpus": 4, "object_store_mib": 512}, "serve": {"port": 0}}
        )
        up(platform)
        try:
            connect(platform)
            claims = [throughput(platform, *((BACKLOG_QUICK, 1, 10.0) if quick else (BACKLOG, 7, None)))]
            if quick:
                print(
                    f"--quick: a backlog of {BACKLOG_QUICK:,} records, not {BACKLOG:,}, and a stream of "
                    f"{SOAK_QUICK:,}, not {SOAK:,}",
                    file=sys.stderr,
                )
            return [*claims, *stream(platform, SOAK_QUICK if quick else SOAK)]
        finally:
            disconnect()
            down(platform)


if __name__ == "__main__":
    if sys.argv[1:2] == ["broker"]:
        serve_broker()
    elif sys.argv[1:2] == ["generate"]:
        generate(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["consume"]:
        consume_only(sys.argv[2], int(sys.argv[3]))
    else:
        main(measure, "From a topic to rows that can be queried.")
