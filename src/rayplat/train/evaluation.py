"""The model and its baselines, measured on the same test rows.

Knows what is compared with what; it does not know the formulas (`metrics`) or the rivals (`baselines`).
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from rayplat.train.baselines import BASE_RATE, GRADIENT_BOOSTING, base_rate, gradient_boosting
from rayplat.train.metrics import all_metrics
from rayplat.train.rows import Rows


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of the model and of each baseline, and the probabilities they come from.

    Attributes:
        table: a row a test row: `label`, `probability` (of the model), `gradient_boosting`.
    """

    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    table: pa.Table

    def to_parquet(self) -> bytes:
        """The table as a Parquet file."""
        out = io.BytesIO()
        parquet.write_table(self.table, out, compression="zstd")
        return out.getvalue()


def evaluate(rows: Rows, probabilities: NDArray[Any], seed: int) -> Evaluation:
    """Train the baselines and measure all on the test rows.

    Args:
        rows: of the training set.
        probabilities: the model's, for each test row in order.
        seed: of the baselines.
    """
    boosted = gradient_boosting(rows, seed)
    return Evaluation(
        metrics=all_metrics(rows.y_test, probabilities),
        baselines={
            BASE_RATE: all_metrics(rows.y_test, base_rate(rows)),
            GRADIENT_BOOSTING: all_metrics(rows.y_test, boosted),
        },
        table=pa.table(
            {
                "label": pa.array(rows.y_test.astype(bool)),
                "probability": pa.array(probabilities.astype(np.float32)),
                GRADIENT_BOOSTING: pa.array(boosted.astype(np.float32)),
            }
        ),
    )
