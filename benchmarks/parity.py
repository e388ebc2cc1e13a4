"""Served features against the lakehouse, bit by bit, over a month of real flights.

Run: .venv/bin/python benchmarks/parity.py [--json] [--quick]

The events of March 2013 (--quick: a week) are told into a lakehouse in ticks: 10 % late, 2 % twice, 3 %
corrected, all out of order within a quarter of an hour. In each tick the online store is materialized: in
every other one before the flights of the tick ask, so that the store is ahead of them, else after, so that
it is behind. Each flight asks at its scheduled departure and is logged, and all of the log is proved.
The same with a store that loses late rows is the positive control: it must be found.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import cast

import polars as pl
from harness import Claim, main
from parity_world import (
    ARRIVALS,
    FEATURE_VIEWS,
    PLANES,
    VIEWS,
    WEATHER,
    Tick,
    WithoutLate,
    month,
    planes,
    ticks,
)

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.features.lake import Lake
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore
from rayplat.features.parity.log import FeatureLog, vector_lines
from rayplat.features.parity.prove import prove
from rayplat.features.parity.report import ParityReport
from rayplat.features.parity.vectors import FeatureVectors
from rayplat.features.plan import plan
from rayplat.features.requests import request_columns, request_frame
from rayplat.features.serving import get_online_features

_SEED = 2013


@dataclass
class World:
    """The lakehouse, as the store sees it, the store and the log."""

    lake: Lakehouse
    seen: Lake
    online: OnlineStore
    log: FeatureLog

    def tell(self, tick: Tick) -> None:
        for name, rows in tick.told.items():
            _append(self.lake, name, rows)
        materialize(self.seen, self.online, FEATURE_VIEWS)

    def ask(self, tick: Tick) -> int:
        for (at,), group in tick.asks.group_by(["scheduled_departure"], maintain_order=True):
            assert isinstance(at, datetime)
            requests = group.select([c for c in request_columns(VIEWS) if c in group.columns]).to_dicts()
            answer = get_online_features(self.online, VIEWS, requests, at)
            lines = vector_lines(
                request_frame(VIEWS, requests, at),
                answer.frame,
                at,
                digests={view.name: plan(view).digest for view in VIEWS},
                standing=answer.progress,
                caller="benchmark",
            )
            self.log.submit(lines)
        return tick.asks.height


def _append(lake: Lakehouse, name: str, rows: pl.DataFrame) -> None:
    """Append rows as an ingest does, with the offsets after them."""
    if rows.is_empty():
        return
    table = lake.table(name)
    committer = FencedCommitter(lake, name, "benchmark")
    ends = rows.group_by("_partition").agg(pl.col("_offset").max() + 1).rows()
    files = table.write_files(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    committer.commit(files, committer.committed(), {str(p): end for p, end in ends})


def _open(folder: Path) -> Lakehouse:
    lake = Lakehouse(Settings(home=folder))
    for table in (ARRIVALS, WEATHER, PLANES):
        lake.ensure(table)
    lake.table(PLANES.name).overwrite(planes().to_arrow(compat_level=pl.CompatLevel.oldest()))
    return lake


def replay(folder: Path, stream: Sequence[Tick], *, faulty: bool) -> tuple[ParityReport, float]:
    """Tell, materialize, ask and prove; the report, and the seconds that the proof took."""
    lake = _open(folder / "lake")
    seen = cast("Lake", WithoutLate(lake) if faulty else lake)
    world = World(lake, seen, open_online(Settings(home=folder)), FeatureLog(folder / "spools", lake))
    for number, tick in enumerate(stream):
        ahead = number % 2 == 0
        if ahead:
            world.tell(tick)
        world.ask(tick)
        if not ahead:
            world.tell(tick)
    world.log.close()
    begin = time.perf_counter()
    report = prove(lake, VIEWS, FeatureVectors(lake))
    spent = time.perf_counter() - begin
    world.online.close()
    lake.close()
    return report, spent


def measure(quick: bool) -> list[Claim]:
    begin, end, tick = month(quick)
    stream = list(ticks(begin, end, tick, _SEED))
    with tempfile.TemporaryDirectory() as folder:
        report, spent = replay(Path(folder) / "true", stream, faulty=False)
        for finding in report.findings:
            print(finding)
        control, _ = replay(Path(folder) / "control", stream[:9], faulty=True)
    caught = ", ".join(sorted({f.cause.kind.value for f in control.findings}))
    if control.different == 0:
        raise SystemExit("the planted fault was not found: the proof proves nothing")
    note = (
        f"{report.vectors:,} vectors, {report.values:,} values; {report.identical:,} identical, "
        f"{report.lagging:,} lagging; proved in {spent:.1f} s; a store that drops late rows differs in "
        f"{control.different:,} of {control.vectors:,} ({caught})"
    )
    return [Claim("parity_mismatches", "mismatches", [float(report.different)], note=note)]


if __name__ == "__main__":
    main(measure, __doc__ or "")
