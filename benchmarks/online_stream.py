"""From an event on the topic to its effect in the online values, at 10,000 events a second.

Knows the stream and how its age is told; the broker, the generator and the records are those of
benchmarks/ingest.py. Run by benchmarks/online_features.py.
"""

import tempfile
import threading
import time
from functools import partial
from typing import Any

import numpy as np
from harness import Claim
from ingest import PARTITIONS, broker, generator, settings_for, table, wait_until

RATE = 10_000
WARM = 20_000
EVENTS, EVENTS_QUICK = 300_000, 20_000


def views() -> list[Any]:
    """The views that follow: the last row of each of 5,000 entities, and windows over their rows."""
    import polars as pl

    import rayplat as rp

    project = rp.Project("bench", owner="bench@example.com")
    source = table()
    hour = rp.window("1h")
    return [
        project.feature_view(
            "last", source=source, entity="distance", features={"at": pl.col("at"), "delay": pl.col("delay")}
        ),
        project.feature_view(
            "hourly",
            source=source,
            entity="distance",
            features={"count": hour.count("delay"), "mean": hour.mean("delay"), "max": hour.max("delay")},
        ),
    ]


def event_to_online(quick: bool) -> Claim:
    """The claim; starts a platform of its own."""
    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings

    count = EVENTS_QUICK if quick else EVENTS
    with tempfile.TemporaryDirectory(prefix="rayplat-bench-") as home:
        platform = Settings.model_validate(
            {"home": home, "ray": {"cpus": 4, "object_store_mib": 512}, "serve": {"port": 0}}
        )
        up(platform)
        try:
            connect(platform)
            p50, p99 = followed_stream(platform, count)
        finally:
            disconnect()
            down(platform)
    note = f"{count:,} events at {RATE:,}/s into 2 views; p50 {p50:.2f} s"
    return Claim("event_to_online_p99_s", "s", [p99], note=note)


def followed_stream(platform: Any, count: int) -> tuple[float, float]:
    """The 50th and the 99th percentile over events of the time from `at` to the online write, s."""
    from rayplat.core.events import EventBus
    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.data.streaming.service import IngestService
    from rayplat.features.materialize import FeaturesMaterialized, materialize
    from rayplat.features.online.opening import open_online
    from rayplat.features.streaming import OnlineFollower

    written: dict[str, list[tuple[float, dict[str, int]]]] = {"last": [], "hourly": []}
    with broker() as bootstrap, tempfile.TemporaryDirectory() as home:
        settings = settings_for(platform, home, bootstrap)
        bus, told = EventBus(), EventBus()
        told.subscribe(FeaturesMaterialized, lambda e: written[e.view].append((time.time(), dict(e.offsets))))
        lake, online = Lakehouse(settings), open_online(settings)
        service = IngestService(Lakehouse(settings), settings, bus)
        thread = threading.Thread(target=service.feed, args=([table()],))

        def reached(records: int) -> bool:
            return all(v and sum(v[-1][1].values()) >= records for v in written.values())

        with OnlineFollower(views(), partial(materialize, lake, online, bus=told), bus):
            thread.start()
            try:
                assert generator(bootstrap, WARM, RATE).wait() == 0  # the readers start
                wait_until(lambda: reached(WARM), 60, "the warm-up")
                assert generator(bootstrap, count, RATE).wait() == 0
                wait_until(lambda: reached(WARM + count), 60, "the end of the stream")
            finally:
                service.stop()
                thread.join()
        check(lake, online)
        ages = np.concatenate([_ages(lake, turns) for turns in written.values()])
        lake.close()
        online.close()
    return float(np.percentile(ages, 50)), float(np.percentile(ages, 99))


def check(lake: Any, online: Any) -> None:
    """The online values must be those of the whole table."""
    import polars as pl

    from rayplat.features.serving import get_online_features

    rows = pl.DataFrame(lake.table("raw.events").read(["distance", "delay", "at"]))
    expected = rows.group_by("distance").agg(pl.len().alias("n"), pl.col("at").max()).sort("distance")
    at = rows["at"].max()
    requests = [{"distance": d} for d in expected["distance"].to_list()]
    found = get_online_features(online, views(), requests, at).frame
    same = (found["hourly__count"] == expected["n"]).all() and (found["last__at"] == expected["at"]).all()
    if not same:
        raise SystemExit("the online values are not those of the table")


def _ages(lake: Any, turns: list[tuple[float, dict[str, int]]]) -> np.ndarray[Any, Any]:
    """By event of the stream, how old it was when a view was written with it, s."""
    rows = lake.table("raw.events").read(["at", "_partition", "_offset"])
    at = rows["at"].cast("int64").to_numpy() / 1e6
    partition, offset = rows["_partition"].to_numpy(), rows["_offset"].to_numpy()
    times = np.array([when for when, _ in turns])
    ages = []
    for p in range(PARTITIONS):
        ends = np.array([offsets.get(str(p), 0) for _, offsets in turns])
        mine = (partition == p) & (offset >= WARM // PARTITIONS)
        ages.append(times[np.searchsorted(ends, offset[mine], side="right")] - at[mine])
    return np.concatenate(ages)
