"""The rows of a training set as matrices, the same on every worker.

Knows how the pinned table becomes inputs and labels in a fixed order; it does not know how the
features were computed (`features.training_set`) or how batches are cut (`run`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, slots=True)
class Rows:
    """Training and test rows.

    Attributes:
        inputs: the names of the columns of the matrices, in order.
        x_train, x_test: float32 [rows, inputs], NaN where a value is missing.
        y_train, y_test: float32 [rows], 0 or 1.
    """

    inputs: tuple[str, ...]
    x_train: NDArray[np.float32]
    y_train: NDArray[np.float32]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.float32]


class ReadsRows(Protocol):
    """Gives a worker its rows. Travels to the workers as a value."""

    def read(self) -> Rows:
        """All rows, the same ones in the same order wherever it is called."""
        ...


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where the rows are: a table at a pinned snapshot. Travels to the workers as a value.

    Attributes:
        order: the columns that fix the order of the rows: files of a table have none.
    """

    settings: Settings
    table: str
    snapshot_id: int
    inputs: tuple[str, ...]
    order: tuple[str, ...]

    def read(self) -> Rows:
        """Read the rows from the lakehouse.

        Raises:
            NotFoundError: there is no such table.
            UserError: no training or no test rows, or one class only.
        """
        from rayplat.data.lakehouse.catalog import Lakehouse

        columns = [*dict.fromkeys([*self.order, "label", "split", *self.inputs])]
        table = Lakehouse(self.settings).table(self.table).read(columns, snapshot_id=self.snapshot_id)
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"a table was expected, not {type(frame).__name__}")
        return rows_of(frame, self.inputs, self.order, name=self.table)


def rows_of(frame: pl.DataFrame, inputs: Sequence[str], order: Sequence[str], name: str) -> Rows:
    """Cut a frame with `label`, `split` and the inputs into training and test rows.

    Raises:
        UserError: no training or no test rows, or one class only among the training rows.
    """
    frame = frame.sort(list(order), maintain_order=True) if order else frame
    parts = {}
    for split in (TRAIN, TEST):
        part = frame.filter(pl.col("split") == split)
        if part.is_empty():
            raise UserError(
                f"{name} has no {split} rows",
                "move the model's train_until and test_until so that labelled rows lie on both sides",
            )
        x = part.select(pl.col(list(inputs)).cast(pl.Float32).fill_null(float("nan"))).to_numpy()
        y = part["label"].cast(pl.Float32).to_numpy()
        parts[split] = (np.ascontiguousarray(x, dtype=np.float32), y.astype(np.float32))
    x_train, y_train = parts[TRAIN]
    if y_train.min() == y_train.max():
        raise UserError(
            f"every one of the {len(y_train)} training rows of {name} has the label {bool(y_train[0])}",
            "correct the label's expression, or move train_until",
        )
    return Rows(tuple(inputs), x_train, y_train, *parts[TEST])
