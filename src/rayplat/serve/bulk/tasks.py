"""Where the batches of a scoring are scored: in this process, or as tasks of one Ray Data pipeline.

Knows how rows get to a scorer and files come back; it does not know what a scorer does.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from rayplat.core.project.model import Model
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.datasource import dataset
from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.scan import Scan
from rayplat.features.offline import get_historical_features
from rayplat.serve.bulk.scorer import TIME, Scorer, files_of, joins

if TYPE_CHECKING:
    from ray.data import Dataset

HERE_ROWS = 500_000
"""So many rows are scored in this process: to begin with Ray would take longer than the work."""
BLOCK_BYTES = 64 * 2**20
"""What a task reads, in memory; its features and inputs take about as much again."""


def here(scan: Scan, scorer: Scorer, model: Model, lake: Lakehouse) -> Iterator[DataFile]:
    """Score the rows of a scan in this process."""
    scoring = scorer.scoring
    rows = with_time(scan.arrow(), scoring.at)
    if joins(model):
        frame = pl.DataFrame(rows)
        found = get_historical_features(frame, scoring.time or TIME, model.features, lake, scoring.sources)
        rows = found.to_arrow(compat_level=pl.CompatLevel.oldest())
    if rows.num_rows:
        yield from files_of(scorer(rows))


def on_ray(scan: Scan, scorer: Scorer, model: Model, lake: Lakehouse) -> Iterator[DataFile]:
    """Score the rows of a scan by tasks; Ray must be connected.

    Reading, features of the row itself, the network and writing are one task, so rows never travel. Features
    of other rows are joined before (see `features.distributed`).
    """
    from ray.data import DataContext

    context = DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    ordered, context.execution_options.preserve_order = context.execution_options.preserve_order, True
    try:
        for block in _scored(dataset(scan, block_bytes=BLOCK_BYTES), scorer, model, lake):
            yield from files_of(block)
    finally:
        context.enable_progress_bars = shown
        context.execution_options.preserve_order = ordered


def _scored(rows: "Dataset", scorer: Scorer, model: Model, lake: Lakehouse) -> Iterator[pa.Table]:
    scoring = scorer.scoring
    whole: Any = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    if scoring.at is not None:
        rows = rows.map_batches(partial(with_time, at=scoring.at), **whole)
    if joins(model):
        rows = get_historical_features(rows, scoring.time or TIME, model.features, lake, scoring.sources)
    made = rows.map_batches(partial(_score, scorer), **whole)
    yield from made.iter_batches(batch_size=None, batch_format="pyarrow")


def _score(scorer: Scorer, rows: pa.Table) -> pa.Table:
    return scorer(rows)


def with_time(rows: pa.Table, at: datetime | None) -> pa.Table:
    """The rows with a column `TIME` that says `at` of each; as they are without it."""
    if at is None:
        return rows
    micros = np.full(rows.num_rows, int(at.timestamp() * 1_000_000))
    return rows.append_column(TIME, pa.array(micros).cast(pa.timestamp("us", "UTC")))
