"""What an endpoint has answered, as it lies in the lakehouse, and the outcomes that came since.

Knows the prediction log's table and how an outcome finds its prediction; it does not know what is
measured on them. Predictions that still wait in the outbox are not seen: drain first.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import polars as pl

from rayplat.core.project.model import Endpoint, Model
from rayplat.core.project.project import Project
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.training_rows import OUTCOME, outcomes
from rayplat.serve.outbox import SHADOW
from rayplat.serve.prediction_log import SCHEMA, TABLE

LABEL = "label"
_KEY = "__key_"
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "timestamp": pl.String(),  # JSON has no times; they are read below
}


def served(lake: Lakehouse, endpoint: Endpoint) -> pl.DataFrame:
    """What an endpoint has answered, in the order of the times; no rows before the first drain.

    What a shadow said is not among them: nobody was told.
    """
    if not lake.exists(TABLE):
        return pl.DataFrame(pl.from_arrow(SCHEMA.empty_table()))
    rows = lake.table(TABLE).read(where=f"endpoint == '{endpoint.name}'")
    found = pl.DataFrame(pl.from_arrow(rows)).filter(pl.col("arm").ne_missing(SHADOW))
    return found.sort("at", "asked_at", "prediction_id")


def with_outcomes(lake: Lakehouse, model: Model, predictions: pl.DataFrame) -> pl.DataFrame:
    """Predictions with a column `label`: true, false, or null where no outcome is known (yet).

    A request finds its outcome by the columns that the model's label is joined on; one that did not send
    them never finds it. Which of several outcomes of a key counts is decided by the code that makes
    training sets, here without an end of the period.
    """
    source = model.label.source
    snapshot = lake.table(source.name).snapshot_id() if lake.exists(source.name) else None
    if predictions.is_empty() or snapshot is None:
        return predictions.with_columns(pl.lit(None, pl.Boolean).alias(LABEL))
    told = outcomes(lake, replace(model, test_until=_END_OF_TIME), {source.name: snapshot})
    keys = list(model.label.keys)
    labels = told.select(*(pl.col(k).alias(f"{_KEY}{k}") for k in keys), pl.col(OUTCOME).alias(LABEL))
    asked = pl.concat([predictions, _keys(predictions, model)], how="horizontal")
    return asked.join(labels, on=[f"{_KEY}{k}" for k in keys], how="left", maintain_order="left").select(
        *predictions.columns, LABEL
    )


def model_of(project: Project, endpoint: Endpoint) -> Model:
    """The model that an endpoint answers with; a validated project has it."""
    return next(model for model in project.models if model.name == endpoint.model)


def feature_values(predictions: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The features as numbers, a column each: float64, NaN where a value is missing; true is 1."""
    rows = [orjson.loads(text) for text in predictions.get_column("features")]
    return pl.DataFrame(
        {name: pl.Series([_number(row.get(name)) for row in rows], dtype=pl.Float64) for name in names}
    )


def _number(value: float | bool | None) -> float:
    return float("nan") if value is None else float(value)


def _keys(predictions: pl.DataFrame, model: Model) -> pl.DataFrame:
    """The label's keys out of the requests, with the types of the outcomes' table."""
    rows = [orjson.loads(text) for text in predictions.get_column("request")]
    columns = []
    for key in model.label.keys:
        kind = model.label.source.columns[key].type
        values = pl.Series(f"{_KEY}{key}", [row.get(key) for row in rows], dtype=_TYPES[kind], strict=False)
        columns.append(
            values.str.to_datetime(time_unit="us", time_zone="UTC") if kind == "timestamp" else values
        )
    return pl.DataFrame(columns)
