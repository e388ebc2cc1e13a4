"""Rows of a training set as one row-major matrix, in memory or mapped from an Arrow file.

Knows how rows lie so that any of them is one short copy; it does not know their order (`order`) or who
needs them (`loader`).
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rayplat.core.errors import UserError

Floats = np.ndarray[Any, np.dtype[np.float32]]
_X, _Y = "x", "y"


class RowMatrix:
    """Inputs and labels by row.

    Args:
        x: float32 [rows, inputs], NaN where a value is missing.
        y: float32 [rows].
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        if x.ndim != 2 or len(x) != len(y):
            raise UserError(f"inputs of shape {x.shape} with labels of shape {y.shape}", "give a label a row")
        self._x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        self._y = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32))

    @staticmethod
    def of_table(table: pa.Table, inputs: Sequence[str], label: str) -> "RowMatrix":
        """The rows of an Arrow table: a pinned snapshot or training set as it was read.

        Raises:
            UserError: a column is missing.
        """
        missing = sorted({*inputs, label} - set(table.column_names))
        if missing:
            raise UserError(f"the table has no columns {missing}", f"it has {table.column_names}")
        x = np.empty((table.num_rows, len(inputs)), dtype=np.float32)
        for at, name in enumerate(inputs):
            x[:, at] = _floats(table.column(name))
        return RowMatrix(x, _floats(table.column(label)))

    @staticmethod
    def map(path: Path) -> "RowMatrix":
        """The rows that `write` wrote, mapped: pages are read when they are needed and shared by processes.

        Raises:
            UserError: it is no such file.
        """
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            buffer = pa.py_buffer(mapped)
            table = pa.ipc.open_file(buffer).read_all()
            x, y = table.column(_X).chunk(0), table.column(_Y).chunk(0)
        except (pa.ArrowInvalid, KeyError, FileNotFoundError, ValueError) as error:
            raise UserError(f"{path} is no file of rows: {error}", "write it with RowMatrix.write") from error
        flat = _of_mapping(mapped, buffer, x.values)
        return RowMatrix(flat.reshape(len(x), x.type.list_size), _of_mapping(mapped, buffer, y))

    def write(self, path: Path) -> None:
        """Write an Arrow file that `map` maps; it appears whole."""
        values = pa.array(self._x.view(-1).numpy())
        lists = pa.FixedSizeListArray.from_arrays(values, self.width)
        table = pa.table({_X: lists, _Y: pa.array(self._y.numpy())})
        draft = path.with_name(f"{path.name}.draft")
        with pa.OSFile(str(draft), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        draft.rename(path)

    def __len__(self) -> int:
        return len(self._y)

    @property
    def width(self) -> int:
        """How many inputs a row has."""
        return int(self._x.shape[1])

    def take(self, rows: np.ndarray[Any, Any], *, pinned: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies of some rows, in this order.

        Args:
            rows: their numbers.
            pinned: whether a GPU is to copy from them.

        Returns:
            x float32 [len(rows), width] and y float32 [len(rows)], on the CPU.

        Raises:
            IndexError: a row is not there.
        """
        x = torch.empty((len(rows), self.width), dtype=torch.float32, pin_memory=pinned)
        y = torch.empty(len(rows), dtype=torch.float32, pin_memory=pinned)
        if len(rows):
            # numpy's take would hold the interpreter's lock, and with it the step that runs meanwhile.
            numbers = torch.from_numpy(rows)
            torch.index_select(self._x, 0, numbers, out=x)
            torch.index_select(self._y, 0, numbers, out=y)
        return x, y


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.array(column.cast(pa.float32()).fill_null(float("nan")).to_numpy(), dtype=np.float32)


def _of_mapping(mapped: mmap.mmap, buffer: pa.Buffer, values: pa.Array) -> Floats:
    """Arrow's values as numpy, by the mapping itself: it is private, so torch may take it as writable."""
    at = values.buffers()[1].address - buffer.address
    return np.frombuffer(mapped, np.float32, len(values), at)
