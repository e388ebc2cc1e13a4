"""Whether two columns are the same, bit by bit.

Knows types and bits; it does not know where the columns come from.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

Mask = npt.NDArray[np.bool_]


def differing(left: pl.Series, right: pl.Series) -> Mask:
    """Where two columns of one type and length differ.

    Two nulls are the same; so are two NaN, whatever their payload. 0.0 and -0.0 differ; so do null and NaN.
    """
    null = left.is_null().to_numpy() != right.is_null().to_numpy()
    if left.dtype == pl.Null:
        return np.asarray(null, dtype=bool)
    if not left.dtype.is_float():
        return np.asarray(~left.eq_missing(right).to_numpy(), dtype=bool)
    both = left.is_not_null().to_numpy() & right.is_not_null().to_numpy()
    unequal = bits(left) != bits(right)
    return np.asarray(null | (both & unequal), dtype=bool)


def bits(series: pl.Series) -> npt.NDArray[np.int64]:
    """A column of floats as its bits, one pattern for every NaN; nulls are 0."""
    values = series.cast(pl.Float64).fill_null(0.0).to_numpy()
    return np.where(np.isnan(values), np.nan, values).view(np.int64)
