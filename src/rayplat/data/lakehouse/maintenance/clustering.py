"""Clustering: in which order rows are written so that filters skip most of a file.

Knows columns and orders; it does not know files. Linear order serves filters on the first column; the
Z-curve (Morton, "A computer oriented geodetic data base", 1966) serves filters on any of its columns.
Values are replaced by their ranks first, so that a skewed column takes as many bits as an even one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.errors import UserError
from rayplat.core.project.table import Clustering

_BITS = 64
Order = np.ndarray[Any, np.dtype[np.int64]]
Ranks = np.ndarray[Any, np.dtype[np.uint64]]


def clustered(data: pa.Table, clustering: Clustering) -> pa.Table:
    """Rows in the order of a clustering; equal ones keep theirs, and nulls come last.

    Raises:
        UserError: a column that the rows do not have.
    """
    missing = [name for name in clustering.columns if name not in data.column_names]
    if missing or not clustering.columns:
        raise UserError(
            f"the rows cannot be clustered by {missing or 'no column'}",
            f"use: {', '.join(data.column_names)}",
        )
    if clustering.kind == "zorder":
        return data.take(pa.array(zorder_indices([data[name] for name in clustering.columns])))
    # Arrow's own sort is not stable.
    numbered = data.append_column("", pa.array(np.arange(data.num_rows)))
    keys = [(name, "ascending", "at_end") for name in (*clustering.columns, "")]
    return data.take(pc.sort_indices(numbered, sort_keys=keys))


def zorder_indices(columns: Sequence[pa.ChunkedArray]) -> Order:
    """The order of rows along the Z-curve over their columns.

    Args:
        columns: of one length, of types that can be compared.

    Returns:
        Positions of rows, shape (rows,), int64.
    """
    bits = _BITS // len(columns)
    scaled = [_scaled_ranks(column, bits) for column in columns]
    # A rank below 2^n has no bits above n: rounds for them would do nothing.
    used = max((int(ranks.max()).bit_length() for ranks in scaled if len(ranks)), default=0)
    curve = np.zeros(len(columns[0]), np.uint64)
    for bit in range(used):
        for position, ranks in enumerate(reversed(scaled)):
            one = (ranks >> np.uint64(bit)) & np.uint64(1)
            curve |= one << np.uint64(bit * len(columns) + position)
    found: Order = np.argsort(curve, kind="stable")
    return found


def _scaled_ranks(column: pa.ChunkedArray, bits: int) -> Ranks:
    """The rank of each value, spread over the same range for every column: [0, 2^min(bits, 31))."""
    if len(column) == 0:
        return np.zeros(0, np.uint64)
    ranks = pc.rank(column, sort_keys=[("", "ascending", "at_end")], tiebreaker="min").to_numpy()
    width = min(bits, 31)
    spread: Ranks = ((ranks.astype(np.uint64) - np.uint64(1)) << np.uint64(width)) // np.uint64(len(column))
    return spread
