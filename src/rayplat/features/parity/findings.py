"""From compared columns to findings: the first vector of each difference, its entity's rows, its cause.

Knows where to look; it does not know what causes there are (`cause`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from rayplat.core.project.view import FeatureView, View
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.parity.cause import Case, explain
from rayplat.features.parity.compare import Mask
from rayplat.features.parity.reach import consumed_at
from rayplat.features.parity.recompute import AT
from rayplat.features.parity.report import Cause, Finding, Kind
from rayplat.features.parity.sources import Place
from rayplat.features.plan import plan


@dataclass(frozen=True, slots=True)
class Compared:
    """A view's served and remade features.

    Attributes:
        rows: the asking rows, with all features that were made anew.
        served: by feature, the served column, where it has the type that the view gives.
        logged: what was served, as JSON has it.
        known: the features from what the store had consumed; `all`: from every known row.
        differs: by feature, where it differs; `lags`: where more was known than consumed.
        digests: of the definition, one a vector, as logged.
        places: one a vector, where its source rows are; `sources`: the rows by snapshot. Empty for a view
            without source rows.
    """

    view: View
    ids: list[str]
    rows: pl.DataFrame
    served: Mapping[str, pl.Series]
    logged: list[dict[str, Any]]
    known: pl.DataFrame
    all: pl.DataFrame
    differs: Mapping[str, Mask]
    lags: Mapping[str, Mask]
    digests: Sequence[str | None]
    places: Sequence[Place]
    sources: Mapping[int | None, pl.DataFrame]


def findings(found: Compared) -> list[Finding]:
    """One finding a feature that differs; features that differ first in one vector are explained together."""
    explained: dict[int, dict[str, Cause]] = {}
    made = []
    for name, mask in found.differs.items():
        if mask.any():
            first = int(np.flatnonzero(mask)[0])
            if first not in explained:
                explained[first] = _explain(found, first)
            cause = explained[first].get(name) or _other(found, first, name)
            made.append(_finding(found, name, mask, cause, found.known))
    return made


def _explain(found: Compared, i: int) -> dict[str, Cause]:
    view = found.view
    if not isinstance(view, FeatureView) or not found.served:
        return {}
    served = pl.DataFrame([series.slice(i, 1) for series in found.served.values()])
    rows = _entity_rows(found, view, i)
    given = _given(found, view, i)
    return explain(Case(view, found.rows.get_column(AT)[i], rows, served, found.digests[i], given))


def _other(found: Compared, i: int, name: str) -> Cause:
    now = plan(found.view).digest
    if found.digests[i] not in (None, now):
        return Cause(
            Kind.DEFINITION, f"served with definition {str(found.digests[i])[:12]}, remade with {now[:12]}"
        )
    if name not in found.served:
        dtype = found.known.schema[name]
        return Cause(
            Kind.DEFINITION, f"the served value {found.logged[i][name]!r} is no {dtype}, which it is now"
        )
    return Cause(Kind.VALUE, "the expression gives another value of the same request and the same features")


def _entity_rows(found: Compared, view: FeatureView, i: int) -> pl.DataFrame:
    """The source rows of the entity that a vector asks about, and whether the store had consumed them."""
    place = found.places[i]
    source = found.sources[place.snapshot_id]
    for column, asks in zip(view.entity, view.asks, strict=True):
        value = found.rows.get_column(asks)[i]
        source = source.filter(pl.col(column) == value) if value is not None else source.clear()
    if place.offsets is None or OFFSET not in source.columns:
        return source.with_columns(pl.lit(True).alias("had"))
    return source.with_columns(pl.Series("had", consumed_at(source, [place.offsets]) == 0))


def _given(found: Compared, view: FeatureView, i: int) -> bool:
    """Whether the values that should be served here were served, to the bit, to another question."""
    if view.windowed or not found.served:
        return False
    names = list(found.served)
    same = np.ones(len(found.ids), dtype=bool)
    for mask in found.differs.values():
        same &= ~mask
    match = pl.all_horizontal(
        *(pl.col(c).eq_missing(pl.lit(found.rows.get_column(c)[i], found.rows.schema[c])) for c in view.asks),
        *(pl.col(n).eq_missing(pl.lit(found.known.get_column(n)[i], found.known.schema[n])) for n in names),
    )
    return bool((found.known.select(match).to_series().to_numpy() & same).any())


def stale(found: Compared) -> list[Finding]:
    """One finding a feature that is behind: the first vector, and the first row that was not consumed."""
    made = []
    for name, mask in found.lags.items():
        if mask.any():
            first = int(np.flatnonzero(mask)[0])
            made.append(_finding(found, name, mask, _behind(found, first), found.all))
    return made


def _behind(found: Compared, i: int) -> Cause:
    view = found.view
    if not isinstance(view, FeatureView):
        return Cause(Kind.STALE, "a feature that it reads is behind")
    at = found.rows.get_column(AT)[i]
    rows = _entity_rows(found, view, i).filter(~pl.col("had"))
    for column in {view.source.event_time, view.source.told_by} - {None}:
        rows = rows.filter(pl.col(str(column)) <= at)
    if rows.is_empty():
        return Cause(Kind.STALE, "a feature that names its entity is behind")
    row = rows.sort(OFFSET, PARTITION).row(0, named=True)
    text = (
        f"offset {row[OFFSET]} of partition {row[PARTITION]} was known, and not consumed yet "
        f"({rows.height} such rows of the entity)"
    )
    return Cause(Kind.STALE, text, row[PARTITION], row[OFFSET])


def _finding(found: Compared, name: str, mask: Mask, cause: Cause, remade: pl.DataFrame) -> Finding:
    view = found.view
    first = int(np.flatnonzero(mask)[0])
    asks = view.asks if isinstance(view, FeatureView) else view.inputs
    return Finding(
        view=view.name,
        feature=name,
        vectors=int(mask.sum()),
        first_id=found.ids[first],
        at=found.rows.get_column(AT)[first],
        entity={c: found.rows.get_column(c)[first] for c in asks if c in found.rows.columns},
        served=found.logged[first][name],
        recomputed=remade.get_column(name)[first],
        cause=cause,
    )
