"""The types that a column may be declared with: plain ones by name, and vectors with their length.

Knows what each type is called and what it is in Polars; it does not know tables, files or formats.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

COLUMN_TYPES = (
    "string",
    "int32",
    "int64",
    "float32",
    "float64",
    "bool",
    "date",
    "timestamp",
    "binary",
)
"""The plain types; `timestamp` is UTC, in microseconds. Beside them: `vector(N)`, see `vector_length`."""

MOST_ELEMENTS = 65_536
"""How long a vector may be at most."""

_VECTOR = re.compile(r"vector\(([1-9][0-9]{0,4})\)", re.ASCII)


def vector_length(kind: object) -> int | None:
    """The N of `vector(N)`: so many float32 numbers, all there and all finite; None for another type."""
    match = _VECTOR.fullmatch(kind) if isinstance(kind, str) else None
    length = int(match[1]) if match else 0
    return length if 1 <= length <= MOST_ELEMENTS else None


def is_column_type(kind: object) -> bool:
    """Whether a column may be declared with it."""
    return kind in COLUMN_TYPES or vector_length(kind) is not None


def meant_as_vector(kind: object) -> bool:
    """Whether it is a vector, or was meant to be one: `vector`, `vector(0)`, `Vector(x)`."""
    return isinstance(kind, str) and kind.strip().lower().startswith("vector")


def polars_type(kind: str) -> "pl.DataType":
    """The Polars type of a column's values.

    Raises:
        KeyError: there is no such column type.
    """
    if vector_length(kind) is not None:
        return _types()["vector"]
    if kind not in COLUMN_TYPES:
        raise KeyError(kind)
    return _types()[kind]


@cache
def _types() -> "dict[str, pl.DataType]":
    import polars as pl

    return {
        "string": pl.String(),
        "int32": pl.Int32(),
        "int64": pl.Int64(),
        "float32": pl.Float32(),
        "float64": pl.Float64(),
        "bool": pl.Boolean(),
        "date": pl.Date(),
        "timestamp": pl.Datetime("us", "UTC"),
        "binary": pl.Binary(),
        "vector": pl.List(pl.Float32),
    }
