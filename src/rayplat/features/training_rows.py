"""The rows of a training set: questions, labels and features put together.

Knows which question, which label and which period; it does not know where the result is kept, nor what
leaks (`guard`).
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.table import Table
from rayplat.core.project.view import FeatureView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.guard import RESERVED, all_views, guard_labels, guard_questions
from rayplat.features.lake import Lake, read_pinned
from rayplat.features.offline import get_historical_features
from rayplat.features.training_pins import known_before

AT, LABEL, SPLIT = RESERVED
OUTCOME = "\0label"
"""The column of `outcomes` that holds them."""
_TOLD = "\0told"


def assemble(lake: Lake, model: Model, snapshots: Mapping[str, int]) -> tuple[pl.DataFrame, int]:
    """Make the rows of a training set from pinned snapshots.

    Returns:
        the labelled rows (key columns, `at`, `label`, `split`, features as float32 without nulls), sorted by
        time and key; and how many questions had no label known before `model.test_until`.

    Raises:
        UserError: a feature is not a number, a period has no labelled row, or a question knows its outcome.
    """
    asked = questions(lake, model, snapshots)
    guard_questions(model, asked)
    labels = outcomes(lake, model, snapshots)
    labelled = asked.join(labels, on=model.label.keys, how="inner", maintain_order="left")
    guard_labels(model, labelled, _TOLD)
    at = str(model.rows.event_time)
    featured = get_historical_features(labelled, at, model.features, lake, snapshots)
    split = pl.when(pl.col(at) < model.train_until).then(pl.lit("train")).otherwise(pl.lit("test"))
    made = featured.select(
        *model.rows.key,
        pl.col(at).alias(AT),
        pl.col(OUTCOME).alias(LABEL),
        split.alias(SPLIT),
        *(_number(featured, name) for name in model.feature_names),
    )
    _check_periods(model, made)
    return made, asked.height - labelled.height


def questions(lake: Lake, model: Model, snapshots: Mapping[str, int]) -> pl.DataFrame:
    """One question a key, sorted by time and key, from rows known before `model.test_until`.

    Of several rows with one key the first known is the question: a later correction was not known when it
    was asked.
    """
    table = model.rows
    views = all_views(model)
    features = {name for view in views for name in view.names}
    entities = [c for v in views if isinstance(v, FeatureView) for c in v.asks if c not in features]
    inputs = [c for v in views if not isinstance(v, FeatureView) for c in v.inputs]
    wanted = [*table.key, *_times(table), *model.label.keys, *entities, *inputs]
    rows = _before(lake, table, wanted, snapshots, model.test_until)
    rows = rows.filter(pl.col(str(table.event_time)) < model.test_until)
    first = rows.sort(_order(table, rows, known_first=True), maintain_order=True).unique(
        table.key, keep="first", maintain_order=True
    )
    return first.drop(c for c in (PARTITION, OFFSET) if c in first.columns).sort(
        [str(table.event_time), *table.key], maintain_order=True
    )


def outcomes(lake: Lake, model: Model, snapshots: Mapping[str, int]) -> pl.DataFrame:
    """The label of each key that has one: the last by event time of those known before `model.test_until`.

    Returns:
        the keys, the label, and the time at which an outcome of the key was first known.
    """
    label = model.label
    wanted = [*label.keys, *_times(label.source), *label.value.meta.root_names()]
    rows = _before(lake, label.source, wanted, snapshots, model.test_until)
    rows = rows.sort(_order(label.source, rows, known_first=False), maintain_order=True)
    first = pl.col(str(label.source.told_by)).min().over(label.keys).alias(_TOLD)
    last = rows.with_columns(first).unique(label.keys, keep="last", maintain_order=True)
    told = last.with_columns(label.value.alias(OUTCOME))
    if told.schema[OUTCOME] != pl.Boolean:
        raise UserError(
            f"the label of model {model.name!r} is {told.schema[OUTCOME]}, not true or false",
            "compare it with something: pl.col('delay') > 15",
        )
    return told.filter(pl.col(OUTCOME).is_not_null()).select(*label.keys, OUTCOME, _TOLD)


def _times(table: Table) -> list[str]:
    return [t for t in (table.event_time, table.known_at) if t]


def _before(
    lake: Lake, table: Table, wanted: list[str], snapshots: Mapping[str, int], until: datetime
) -> pl.DataFrame:
    columns = list(dict.fromkeys(wanted))
    return read_pinned(lake, table.name, columns, snapshots, where=known_before(str(table.told_by), until))


def _order(table: Table, rows: pl.DataFrame, *, known_first: bool) -> list[str]:
    times = [str(table.told_by), str(table.event_time or table.told_by)]
    system = [c for c in (OFFSET, PARTITION) if c in rows.columns]
    return list(dict.fromkeys([*(times if known_first else times[::-1]), *system]))


def _number(frame: pl.DataFrame, name: str) -> pl.Expr:
    dtype = frame.schema[name]
    if not (dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
        raise UserError(
            f"feature {name!r} is {dtype}, and a network reads numbers",
            "turn it into a number in the view, such as (pl.col(...) == 'x') or .dt.hour()",
        )
    return pl.col(name).cast(pl.Float32).fill_null(float("nan"))


def _check_periods(model: Model, made: pl.DataFrame) -> None:
    for split, end in (("train", model.train_until), ("test", model.test_until)):
        if made.filter(pl.col(SPLIT) == split).is_empty():
            raise UserError(
                f"model {model.name!r} has no labelled rows to {split} on (before {end.isoformat()})",
                "ingest more of its rows and labels, or move train_until and test_until",
            )


def content_digest(frame: pl.DataFrame) -> str:
    """The SHA-256 of a frame's names, types and values, in hex; every NaN counts as the same value."""
    hashed = hashlib.sha256()
    for series in frame:
        hashed.update(f"{series.name}\0{series.dtype}\0{len(series)}\0".encode())
        hashed.update(series.is_null().to_numpy().tobytes())
        if series.dtype == pl.String:
            filled = series.fill_null("")
            hashed.update(filled.str.len_bytes().to_numpy().tobytes())
            hashed.update("".join(filled.to_list()).encode())
        elif series.dtype.is_float():
            values = series.fill_null(0).to_numpy()
            hashed.update(np.where(np.isnan(values), np.full_like(values, np.nan), values).tobytes())
        else:
            hashed.update(series.to_physical().fill_null(0).cast(pl.Int64).to_numpy().tobytes())
    return hashed.hexdigest()
