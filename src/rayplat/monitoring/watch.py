"""Watching an endpoint: performance, decay, drift and freshness of what it has served, in one report.

Knows how the log, the outcomes and the manifest of the serving version are brought together; the rules
are in `drift` and `decay`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import orjson
import polars as pl

from rayplat.core.project.model import Endpoint, Monitor
from rayplat.core.project.project import Project
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.monitoring.decay import DecayVerdict, judge
from rayplat.monitoring.drift import Drifted, drift
from rayplat.monitoring.performance import DayPerformance, days_of, measured, split_by_day
from rayplat.monitoring.served import LABEL, feature_values, model_of, served, with_outcomes
from rayplat.registry.artifact import read_manifest
from rayplat.registry.manifest import Manifest
from rayplat.registry.store import Registry

DECAY_DAYS = 7
"""The decay is judged on the last days that have outcomes, this many at most."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the source events behind a view's values were when they were asked for.

    Attributes:
        p50_s, p95_s: quantiles of the age, s; None where no request found an event.
        missing: the share of requests for which the view had nothing.
    """

    view: str
    p50_s: float | None
    p95_s: float | None
    missing: float


@dataclass(frozen=True, slots=True)
class WatchReport:
    """What a monitor has seen.

    Attributes:
        version: the version that decay and drift are judged of: the one that answered last. None before
            the first prediction.
        days: performance by day, of all versions.
        drift: feature -> day -> its distance from the training rows, of that version.
        overall: feature -> its distance over all days together.
        decay: the verdict, and what it rests on.
        decayed: the verdict alone.
        drifted: features that are over the monitor's limit over all days together, the worst first.
        unlabelled: predictions whose outcome is not known (yet), of all versions.
        freshness: by feature view.
    """

    monitor: str
    endpoint: str
    version: int | None
    days: tuple[DayPerformance, ...]
    drift: Mapping[str, Mapping[date, Drifted]]
    overall: Mapping[str, Drifted]
    decay: DecayVerdict
    decayed: bool
    drifted: tuple[str, ...]
    unlabelled: int
    freshness: tuple[Freshness, ...]


def watch(lake: Lakehouse, registry: Registry, project: Project, monitor: Monitor) -> WatchReport:
    """Look at everything that the monitor's endpoint has answered. Drain the prediction log first.

    Raises:
        IntegrityError: the manifest of the version that answered is not what was registered.
        NotFoundError: its artifact is gone.
    """
    endpoint = next(e for e in project.endpoints if e.name == monitor.endpoint)
    model = model_of(project, endpoint)
    rows = with_outcomes(lake, model, served(lake, endpoint))
    if rows.is_empty():
        return _nothing_yet(monitor, endpoint)
    version = int(rows.get_column("version")[-1])
    manifest = _manifest(registry, model.name, version)
    own = rows.filter(pl.col("version") == version)
    values = feature_values(own, list(manifest.profile))
    overall = {name: drift(p, values.get_column(name).to_numpy()) for name, p in manifest.profile.items()}
    verdict = _decay(monitor, manifest, own)
    over = [name for name, found in overall.items() if found.over(monitor.drift.psi_over)]
    return WatchReport(
        monitor=monitor.name,
        endpoint=endpoint.name,
        version=version,
        days=tuple(days_of(rows)),
        drift=_drift_by_day(manifest, own.hstack(values)),
        overall=overall,
        decay=verdict,
        decayed=verdict.decayed,
        drifted=tuple(sorted(over, key=lambda name: -overall[name].psi)),
        unlabelled=rows.get_column(LABEL).null_count(),
        freshness=tuple(freshness(rows)),
    )


def freshness(predictions: pl.DataFrame) -> list[Freshness]:
    """The age of the source event behind each view's values at the time of the question, by view.

    Args:
        predictions: with the columns `at` and `provenance`.
    """
    ages: dict[str, list[float | None]] = {}
    for at, text in zip(predictions.get_column("at"), predictions.get_column("provenance"), strict=True):
        for view, source in orjson.loads(text).items():
            happened = None if source is None else source.get("event_time")
            age = None if happened is None else (at - datetime.fromisoformat(happened)).total_seconds()
            ages.setdefault(view, []).append(age)
    return [_freshness(view, found) for view, found in sorted(ages.items())]


def _freshness(view: str, ages: list[float | None]) -> Freshness:
    known = [age for age in ages if age is not None]
    p50, p95 = (float(q) for q in np.quantile(known, [0.5, 0.95])) if known else (None, None)
    return Freshness(view, p50, p95, 1 - len(known) / len(ages))


def _manifest(registry: Registry, model: str, version: int) -> Manifest:
    registered = registry.version(model, version)
    return read_manifest(registered.artifact_uri, registered.manifest_sha256)


def _drift_by_day(manifest: Manifest, rows: pl.DataFrame) -> dict[str, dict[date, Drifted]]:
    found: dict[str, dict[date, Drifted]] = {name: {} for name in manifest.profile}
    for day, part in split_by_day(rows):
        for name, training in manifest.profile.items():
            found[name][day] = drift(training, part.get_column(name).to_numpy())
    return found


def _decay(monitor: Monitor, manifest: Manifest, rows: pl.DataFrame) -> DecayVerdict:
    labelled = rows.drop_nulls(LABEL)
    days = labelled.get_column("at").dt.date().unique().sort().tail(DECAY_DAYS)
    recent = labelled.filter(pl.col("at").dt.date().is_in(days.implode()))
    return judge(monitor.decay, manifest.metrics, measured(recent), recent.height)


def _nothing_yet(monitor: Monitor, endpoint: Endpoint) -> WatchReport:
    verdict = DecayVerdict(monitor.decay.metric, None, None, None, False, "the endpoint has not answered yet")
    return WatchReport(
        monitor=monitor.name,
        endpoint=endpoint.name,
        version=None,
        days=(),
        drift={},
        overall={},
        decay=verdict,
        decayed=False,
        drifted=(),
        unlabelled=0,
        freshness=(),
    )
