"""Vectors: how long those of a column are, as a table's property says it, and rows that are held to it.

Knows that Iceberg's lists have no length of their own; it does not know declarations or files.
"""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayplat.core.errors import UserError

VECTORS = "rayplat.vectors"
"""Property: a JSON object of column to the number of elements that each of its vectors has."""


def lengths_of(properties: Mapping[str, str]) -> dict[str, int]:
    """By column how many elements its vectors have."""
    told = properties.get(VECTORS, "")
    return {str(name): int(length) for name, length in json.loads(told).items()} if told else {}


def told(lengths: Mapping[str, int]) -> str:
    """Lengths as the property; empty where there is no vector."""
    return json.dumps(dict(sorted(lengths.items()))) if lengths else ""


def check_vectors(data: pa.Table, properties: Mapping[str, str], table: str) -> None:
    """See that vectors are as long as their table says, and their elements finite numbers.

    Raises:
        UserError: one is not.
    """
    for name, length in lengths_of(properties).items():
        if name not in data.column_names or pa.types.is_null(data[name].type):
            continue
        for chunk in data[name].chunks:
            fault = _fault(chunk, length)
            if fault:
                raise UserError(
                    f"rows for table {table} have in {name!r} {fault}; it is vector({length})",
                    f"give {length} finite numbers, or null; rows that are ingested go to the quarantine",
                )


def _fault(chunk: pa.Array, length: int) -> str:
    sizes = pc.unique(pc.list_value_length(chunk).drop_null()).to_pylist()
    wrong = [size for size in sizes if size != length]
    if wrong:
        return f"a vector of {wrong[0]} numbers"
    values = chunk.flatten()
    if values.null_count:
        return "a vector with a null element"
    finite = bool(np.isfinite(values.to_numpy(zero_copy_only=False)).all())
    return "" if finite else "a vector with an element that is not finite"


def changed(old: Mapping[str, int], new: Mapping[str, int], renamed: Mapping[str, str]) -> list[str]:
    """Why vectors that are stored cannot be as long as is wanted.

    Args:
        old: the lengths of the stored ones; `new`: the lengths that are wanted.
        renamed: new name to old name.
    """
    found = []
    for name, length in new.items():
        have = old.get(renamed.get(name, name))
        if have is not None and have != length:
            found.append(
                f"{name} is vector({have}) and declared vector({length}): stored vectors keep their length "
                "(declare a new column beside it)"
            )
    return found
