"""`prove`: served vectors made anew from the lakehouse, and compared bit by bit.

Knows the order: read the log, make every view anew, compare, name causes; it does not know how rows are
chosen (`recompute`) nor what causes there are (`cause`).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from rayplat.core.project.view import DerivedView, FeatureView, RequestView, View
from rayplat.features.derived import derived_features
from rayplat.features.instants import UTC_MICROS
from rayplat.features.lake import Lake
from rayplat.features.parity.compare import Mask, differing
from rayplat.features.parity.findings import Compared, findings, stale
from rayplat.features.parity.recompute import AT, distinct, in_order, recompute
from rayplat.features.parity.report import Finding, ParityReport
from rayplat.features.parity.sources import SourceTable, Standing, distinct_places
from rayplat.features.parity.vectors import VectorLog, decode_column, decode_rows
from rayplat.features.plan import plan
from rayplat.features.requests import request_columns, request_frame


@dataclass(frozen=True, slots=True)
class Vectors:
    """Logged vectors with one set of features, as typed rows.

    Attributes:
        ids: the id of each; `rows`: the asking rows, with `AT`.
        features: what was served, as JSON has it.
        standing: by view, how far it had come, one a vector; None: the log does not tell.
        exact: whether the log tells NaN from null.
    """

    ids: list[str]
    rows: pl.DataFrame
    features: list[dict[str, Any]]
    standing: dict[str, list[Standing | None]]
    exact: bool


def prove(
    lake: Lake,
    views: Sequence[View],
    log: VectorLog,
    *,
    only: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> ParityReport:
    """Make logged vectors anew and compare them.

    Args:
        lake: the lakehouse.
        views: the views of the project, as they are defined now.
        log: the served vectors.
        only: compare the features of these views alone; empty: of all.
        start: vectors asked from this time on; `end`: before this time.
        sample: at most this many vectors, drawn by `seed`; None: all.

    Raises:
        UserError: a request in the log lacks a column that a view reads now.
        NotFoundError: a source table does not exist.
    """
    logged = log.read(start, end)
    if sample is not None and sample < logged.height:
        logged = logged.sample(sample, seed=seed).sort("at", "id")
    served = decode_rows(logged.get_column("features").to_list())
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, features in enumerate(served):
        groups[tuple(features)].append(i)
    reports = []
    for names, places in groups.items():
        part = logged.select(pl.all().gather(places))
        wanted = [v for v in views if set(names) & set(v.names) and (not only or v.name in only)]
        if not wanted and only:
            continue
        vectors = _vectors(part, [served[i] for i in places], wanted)
        unknown = sorted(set(names) - {n for v in views for n in v.names})
        reports.append(_prove(lake, wanted, vectors, names, [] if only else unknown))
    return _together(reports)


def _vectors(logged: pl.DataFrame, features: list[dict[str, Any]], views: Sequence[View]) -> Vectors:
    asked = _with_upstream(views)
    times = {v.source.event_time for v in asked if not isinstance(v, FeatureView) and v.source is not None}
    requests = decode_rows(logged.get_column("request").to_list())
    needed = set(request_columns(asked))
    for request, at in zip(requests, logged.get_column("at").to_list(), strict=True):
        for time in times & needed:
            request.setdefault(str(time), at)
    ats = logged.get_column("at").cast(UTC_MICROS).alias(AT)
    rows = request_frame(asked, requests, ats[0]) if needed else pl.DataFrame()
    exact = logged.get_column("views").null_count() == 0
    return Vectors(
        ids=logged.get_column("id").to_list(),
        rows=rows.with_columns(ats) if rows.width else pl.DataFrame([ats]),
        features=features,
        standing=_standing(logged, [v.name for v in asked if isinstance(v, FeatureView)], exact=exact),
        exact=exact,
    )


def _with_upstream(views: Sequence[View]) -> list[View]:
    """The views and those that they are derived from, each once, upstream first."""
    found: dict[str, View] = {}
    for view in views:
        if isinstance(view, DerivedView):
            found.update({v.name: v for v in _with_upstream(view.views) if v.name not in found})
        found.setdefault(view.name, view)
    return list(found.values())


def _standing(logged: pl.DataFrame, views: list[str], *, exact: bool) -> dict[str, list[Standing | None]]:
    column = logged.get_column("views" if exact else "provenance")
    texts = column.unique(maintain_order=True)
    by_text = {
        text: {name: _read_standing(told.get(name)) for name in views}
        for text, told in zip(texts.to_list(), decode_rows(texts.fill_null("{}").to_list()), strict=True)
    }
    found: dict[str, list[Standing | None]] = {name: [] for name in views}
    for text in column.to_list():
        for name in views:
            found[name].append(by_text[text][name])
    # The prediction log tells nothing of a view that no row answered: it stood where it stood just before.
    return found if exact else {name: _filled(column) for name, column in found.items()}


def _read_standing(told: Mapping[str, Any] | None) -> Standing | None:
    if told is None:
        return None
    return Standing(told.get("digest"), told.get("snapshot_id"), told.get("offsets"))


def _filled(column: list[Standing | None]) -> list[Standing | None]:
    first = next((s for s in column if s is not None), None)
    found, last = [], first
    for standing in column:
        last = standing or last
        found.append(last)
    return found


def _prove(
    lake: Lake, views: Sequence[View], vectors: Vectors, names: Sequence[str], unknown: Sequence[str]
) -> ParityReport:
    ordered = _with_upstream(views)
    feature_views = [v for v in ordered if isinstance(v, FeatureView)]
    made = _Made(lake, vectors, feature_views)
    for view in in_order(feature_views, made.known.columns):
        made.feature_view(view)
    for other in ordered:
        if not isinstance(other, FeatureView):
            made.row_view(other)
    differs = np.zeros(len(vectors.ids), dtype=bool)
    lags = np.zeros(len(vectors.ids), dtype=bool)
    compared = [_compare(made, view, vectors, names) for view in views]
    for one in compared:
        for mask in one.differs.values():
            differs |= mask
        for mask in one.lags.values():
            lags |= mask
    differs |= bool(unknown)
    gone = np.zeros(len(vectors.ids), dtype=bool)
    for mask in made.gone.values():
        gone |= mask
    counts = Counter({n: int(m.sum()) for one in compared for n, m in one.differs.items() if m.any()})
    counts.update(dict.fromkeys(unknown, len(vectors.ids)))
    lags &= ~differs
    return ParityReport(
        vectors=len(vectors.ids),
        values=len(vectors.ids) * sum(len(one.differs) for one in compared),
        identical=int((~differs & ~lags & ~gone).sum()),
        lagging=int((lags & ~gone).sum()),
        different=int(differs.sum()),
        unproven={name: int(mask.sum()) for name, mask in made.gone.items() if mask.any()},
        mismatches=dict(counts),
        findings=(*(f for one in compared for f in findings(one)), *_unknown(vectors, unknown)),
        stale=tuple(f for one in compared for f in stale(one)),
    )


class _Made:
    """The features made anew so far, beside the asking rows: as known, and from all rows."""

    def __init__(self, lake: Lake, vectors: Vectors, views: Sequence[FeatureView]) -> None:
        self._vectors = vectors
        columns: dict[str, dict[str, None]] = defaultdict(dict)
        for view in views:
            columns[view.source.name] |= dict.fromkeys(plan(view).columns)
        until = vectors.rows.get_column(AT).max()
        assert isinstance(until, datetime)
        self._tables = {
            view.source.name: SourceTable(lake, view.source, list(columns[view.source.name]), until)
            for view in views
        }
        self.known = vectors.rows
        self.all = vectors.rows
        self.sources: dict[str, dict[int | None, pl.DataFrame]] = {}
        self.places: dict[str, list[Any]] = {}
        self.gone: dict[str, Mask] = {}

    def feature_view(self, view: FeatureView) -> None:
        """Make a feature view's columns."""
        table = self._tables[view.source.name]
        standings = self._standings(view)
        # Vectors of one batch share what is told of them: few places are looked up.
        by_standing = {id(s): table.place(s) for s in {id(s): s for s in standings}.values()}
        places = [by_standing[id(s)] for s in standings]
        self.places[view.name] = places
        self.gone[view.name] = np.array([p.gone for p in places], dtype=bool)
        parts, back, kept = [], [], {}
        for snapshot, where in distinct_places(places).items():
            kept[snapshot] = source = table.rows(snapshot)
            offsets, of = distinct([places[i].offsets for i in where])
            asking = self.known.select(pl.all().gather(where))
            parts.append(recompute(view, asking, source, offsets, of))
            back.extend(where)
        self.sources[view.name] = kept
        self.known = self.known.hstack(_spread([p.known for p in parts], back, len(places), view))
        self.all = self.all.hstack(_spread([p.all for p in parts], back, len(places), view))

    def _standings(self, view: FeatureView) -> list[Standing | None]:
        return self._vectors.standing.get(view.name) or [None] * self.known.height

    def row_view(self, view: RequestView | DerivedView) -> None:
        """Make the columns of a view that reads the asking row, and the features of other views."""
        self.known = self.known.hstack(derived_features(self.known, view))
        self.all = self.all.hstack(derived_features(self.all, view))


def _spread(parts: list[pl.DataFrame], back: list[int], height: int, view: FeatureView) -> pl.DataFrame:
    """Parts in the order of the vectors; null where a vector has no part."""
    if not parts:
        return pl.DataFrame([pl.Series(n, [None] * height, dtype=pl.Null) for n in view.names])
    together = pl.concat(parts, how="vertical_relaxed")
    place = pl.Series([None] * height, dtype=pl.Int64).scatter(back, list(range(len(back))))
    return together.select(pl.all().gather(place))


def _compare(made: _Made, view: View, vectors: Vectors, names: Sequence[str]) -> Compared:
    gone = made.gone.get(view.name, np.zeros(len(vectors.ids), dtype=bool))
    sure = np.array([p.sure for p in made.places.get(view.name, [])] or [True] * len(vectors.ids), dtype=bool)
    served: dict[str, pl.Series] = {}
    differs: dict[str, Mask] = {}
    lags: dict[str, Mask] = {}
    for name in view.names:
        if name not in names:
            continue
        known, all_ = made.known.get_column(name), made.all.get_column(name)
        if not vectors.exact and known.dtype.is_float():
            known, all_ = known.fill_nan(None), all_.fill_nan(None)
        logged = decode_column(name, [f[name] for f in vectors.features], known.dtype)
        if logged is None:
            differs[name] = ~gone
            lags[name] = np.zeros_like(gone)
            continue
        served[name] = logged
        behind = differing(known, all_.cast(known.dtype))
        differs[name] = differing(logged, known) & ~gone & (sure | differing(logged, all_.cast(known.dtype)))
        lags[name] = behind & ~differs[name] & sure & ~gone
    standing = vectors.standing.get(view.name, [None] * len(vectors.ids))
    return Compared(
        view=view,
        ids=vectors.ids,
        rows=made.known,
        served=served,
        logged=vectors.features,
        known=made.known,
        all=made.all,
        differs=differs,
        lags=lags,
        digests=[None if s is None else s.digest for s in standing],
        places=made.places.get(view.name, []),
        sources=made.sources.get(view.name, {}),
    )


def _unknown(vectors: Vectors, names: Sequence[str]) -> list[Finding]:
    from rayplat.features.parity.report import Cause, Kind

    at = vectors.rows.get_column(AT)[0]
    return [
        Finding(
            name.partition("__")[0],
            name,
            len(vectors.ids),
            vectors.ids[0],
            at,
            {},
            vectors.features[0][name],
            None,
            Cause(Kind.DEFINITION, "no view of the project has this feature any more"),
        )
        for name in names
    ]


def _together(reports: Sequence[ParityReport]) -> ParityReport:
    """Reports of several sets of features as one; of findings of one feature the first by time is kept."""

    def first(found: list[Finding]) -> tuple[Finding, ...]:
        kept: dict[str, Finding] = {}
        for one in sorted(found, key=lambda f: f.at):
            kept.setdefault(one.feature, one)
        return tuple(kept.values())

    def added(counts: list[Mapping[str, int]]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for one in counts:
            total.update(one)
        return dict(total)

    return ParityReport(
        vectors=sum(r.vectors for r in reports),
        values=sum(r.values for r in reports),
        identical=sum(r.identical for r in reports),
        lagging=sum(r.lagging for r in reports),
        different=sum(r.different for r in reports),
        unproven=added([r.unproven for r in reports]),
        mismatches=added([r.mismatches for r in reports]),
        findings=first([f for r in reports for f in r.findings]),
        stale=first([f for r in reports for f in r.stale]),
    )
