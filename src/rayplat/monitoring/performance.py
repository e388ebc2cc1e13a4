"""How good the served predictions were, day by day, once their outcomes are known.

Knows which rows make a day; the formulas of the metrics are `rayplat.train.metrics`'s, so that a served
value is comparable with the one of the test period. It does not judge.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from rayplat.core.project.model import Endpoint
from rayplat.core.project.project import Project
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.monitoring.served import LABEL, model_of, served, with_outcomes
from rayplat.train.metrics import all_metrics


@dataclass(frozen=True, slots=True)
class DayPerformance:
    """The predictions of one day (of `at`, UTC).

    Attributes:
        count: predictions; `labelled`: those whose outcome is known.
        versions: the model versions that answered.
        base_rate: the share of positives among the labelled; None without any.
        metrics: name -> value over the labelled; a metric that needs both classes is None with one.
    """

    day: date
    count: int
    labelled: int
    versions: tuple[int, ...]
    base_rate: float | None
    metrics: Mapping[str, float | None]


def by_day(lake: Lakehouse, project: Project, endpoint: Endpoint) -> list[DayPerformance]:
    """The days on which an endpoint answered, in order."""
    predictions = served(lake, endpoint)
    return days_of(with_outcomes(lake, model_of(project, endpoint), predictions))


def days_of(predictions: pl.DataFrame) -> list[DayPerformance]:
    """The days of predictions that have a column `label`."""
    return [_day(day, rows) for day, rows in split_by_day(predictions)]


def split_by_day(predictions: pl.DataFrame) -> Iterator[tuple[date, pl.DataFrame]]:
    """The predictions of each day of `at` (UTC), in order of the days."""
    if predictions.is_empty():
        return
    days = predictions.with_columns(pl.col("at").dt.date().alias("__day")).sort("__day", maintain_order=True)
    for (day,), rows in days.group_by(["__day"], maintain_order=True):
        if isinstance(day, date):
            yield day, rows.drop("__day")


def measured(predictions: pl.DataFrame) -> dict[str, float | None]:
    """Every metric over the labelled rows; None where it cannot be said, such as with one class only."""
    labelled = predictions.drop_nulls(LABEL)
    if labelled.is_empty():
        return {}
    y = labelled.get_column(LABEL).to_numpy().astype(np.float64)
    p = labelled.get_column("probability").to_numpy()
    return {name: value if np.isfinite(value) else None for name, value in all_metrics(y, p).items()}


def _day(day: date, rows: pl.DataFrame) -> DayPerformance:
    labels = rows.get_column(LABEL).drop_nulls()
    return DayPerformance(
        day=day,
        count=rows.height,
        labelled=len(labels),
        versions=tuple(sorted(rows.get_column("version").unique().to_list())),
        base_rate=float(labels.cast(pl.Float64).mean()) if len(labels) else None,  # type: ignore[arg-type]
        metrics=measured(rows),
    )
