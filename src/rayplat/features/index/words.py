"""Columns as words of 64 bits, and back: what a step of the index carries for each feature.

Knows types; it does not know entities and times. Values that do not fit a word (texts, lists) are kept beside
the steps once, and the word is their position.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Words = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def to_words(column: pl.Series) -> tuple[Words, pl.Series | None]:
    """A column as words (0 for null), and the values kept beside them where words cannot hold them."""
    dtype = column.dtype
    if dtype == pl.Float64:
        return column.fill_null(0.0).to_numpy().view(np.int64), None
    if dtype == pl.Float32:
        return column.fill_null(0.0).to_numpy().view(np.int32).astype(np.int64), None
    if dtype == pl.UInt64:
        return column.fill_null(0).to_numpy().view(np.int64), None
    if _fits(dtype):
        return column.to_physical().cast(pl.Int64).fill_null(0).to_numpy(), None
    if dtype == pl.String:
        kept = column.drop_nulls().unique(maintain_order=True)
        places = pl.DataFrame({"\0value": kept}).with_row_index("\0word")
        asked = pl.DataFrame({"\0value": column})
        found = asked.join(places, on="\0value", how="left", maintain_order="left").get_column("\0word")
        return found.cast(pl.Int64).fill_null(0).to_numpy(), kept
    return np.arange(len(column), dtype=np.int64), column


def _fits(dtype: pl.DataType) -> bool:
    times = isinstance(dtype, pl.Date | pl.Datetime | pl.Duration | pl.Time)
    return dtype == pl.Boolean or times or (dtype.is_integer() and dtype != pl.Int128)


def from_words(words: Words, valid: Bools | None, dtype: pl.DataType, kept: pl.Series | None) -> pl.Series:
    """A column of words; null where `valid` is false (None: nowhere).

    The words of 64 bit types are not copied: they must not change any more.
    """
    if kept is not None:
        places = pl.Series(words)
        return kept.gather(places if valid is None else places.set(~pl.Series(valid), None))
    if dtype == pl.Float64:
        return _series(words.view(np.float64), valid)
    if dtype == pl.UInt64:
        return _series(words.view(np.uint64), valid)
    if dtype == pl.Float32:
        return _series(words.astype(np.int32).view(np.float32), valid)
    if dtype == pl.Boolean:
        return _series(words, valid).cast(pl.Boolean)
    # Casts from the physical type to a time change no bit.
    return _series(words, valid).cast(_physical(dtype)).cast(dtype)


def _physical(dtype: pl.DataType) -> pl.DataType:
    return pl.Series([], dtype=dtype).to_physical().dtype


def _series(values: npt.NDArray[np.generic], valid: Bools | None) -> pl.Series:
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    kind = pa.from_numpy_dtype(values.dtype)
    made = pl.from_arrow(pa.Array.from_buffers(kind, len(values), [bitmap, data]))
    assert isinstance(made, pl.Series)  # tells the type checker what an array gives
    return made
