"""The rows of a training set: questions, labels and features put together, and what is refused.

Knows which question, which label and which period; it does not know where the result is kept.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.project.model import Model
from rayplat.core.project.table import Table
from rayplat.core.project.view import RequestView
from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.lake import Lake, read_pinned
from rayplat.features.offline import get_historical_features
from rayplat.features.plan import plan
from rayplat.features.training_pins import known_before

AT, LABEL, SPLIT = "at", "label", "split"


def guard(model: Model) -> None:
    """Refuse a model whose features could know the label.

    A feature view over the label's source must go through its declared `known_at`, so that an outcome is
    seen only from when it was known. A request view may not read the label's source at all: the asking row
    would carry its own outcome.

    Raises:
        UserError: a feature leaks, or the declaration cannot make a training set.
    """
    label = model.label.source
    for view in model.features:
        plan(view)
        if isinstance(view, RequestView):
            _guard_request(model, view)
        elif view.source.name == label.name and view.source.known_at is None:
            raise UserError(
                f"view {view.name!r} reads {label.name!r}, which tells the label of model "
                f"{model.name!r}, and the table does not say when its rows are known",
                f"declare known_at on {label.name!r}",
            )
    if label.told_by is None or model.rows.event_time is None:
        bare = model.rows if model.rows.event_time is None else label
        raise UserError(
            f"table {bare.name!r} of model {model.name!r} has no event time",
            f"declare event_time on {bare.name!r}",
        )
    taken = sorted({AT, LABEL, SPLIT, *model.feature_names} & set(model.rows.key))
    if taken:
        raise UserError(
            f"key columns {taken} of {model.rows.name!r} have names that a training set uses", "rename them"
        )


def _guard_request(model: Model, view: RequestView) -> None:
    if view.source.name == model.label.source.name:
        raise UserError(
            f"request view {view.name!r} reads {view.source.name!r}, which tells the label of "
            f"model {model.name!r}: the answer would be among the inputs",
            "read it through a feature view, which sees only what was known before",
        )
    if view.source.name != model.rows.name:
        raise UserError(
            f"request view {view.name!r} reads {view.source.name!r}, but the rows of "
            f"model {model.name!r} are {model.rows.name!r}",
            f"declare it over {model.rows.name!r}",
        )


def assemble(lake: Lake, model: Model, snapshots: Mapping[str, int]) -> tuple[pl.DataFrame, int]:
    """Make the rows of a training set from pinned snapshots.

    Returns:
        the labelled rows (key columns, `at`, `label`, `split`, features as float32 without nulls), sorted by
        time and key; and how many questions had no label known before `model.test_until`.

    Raises:
        UserError: a feature is not a number, or a period has no labelled row.
    """
    asked = questions(lake, model, snapshots)
    labels = outcomes(lake, model, snapshots)
    labelled = asked.join(labels, on=model.label.keys, how="inner", maintain_order="left")
    at = str(model.rows.event_time)
    featured = get_historical_features(labelled, at, model.features, lake, snapshots)
    split = pl.when(pl.col(at) < model.train_until).then(pl.lit("train")).otherwise(pl.lit("test"))
    made = featured.select(
        *model.rows.key,
        pl.col(at).alias(AT),
        pl.col("\0label").alias(LABEL),
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
    entities = [c for v in model.features if not isinstance(v, RequestView) for c in v.entity]
    inputs = [c for v in model.features if isinstance(v, RequestView) for c in v.inputs]
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
    """The label of each key that has one: the last by event time of those known before `model.test_until`."""
    label = model.label
    wanted = [*label.keys, *_times(label.source), *label.value.meta.root_names()]
    rows = _before(lake, label.source, wanted, snapshots, model.test_until)
    rows = rows.sort(_order(label.source, rows, known_first=False), maintain_order=True)
    last = rows.unique(label.keys, keep="last", maintain_order=True)
    told = last.with_columns(label.value.alias("\0label"))
    if told.schema["\0label"] != pl.Boolean:
        raise UserError(
            f"the label of model {model.name!r} is {told.schema[chr(0) + 'label']}, not true or false",
            "compare it with something: pl.col('delay') > 15",
        )
    return told.filter(pl.col("\0label").is_not_null()).select(*label.keys, "\0label")


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
