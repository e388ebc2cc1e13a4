"""What makes a declared column type one: its name, and the length of a vector.

Knows how a wrong type is told to people; it does not know who declared it.
"""

from typing import Any

from rayplat.core.errors import Where
from rayplat.core.project.column_types import COLUMN_TYPES, MOST_ELEMENTS, meant_as_vector, vector_length
from rayplat.core.project.faults import Faults, short


def check_type(where: Where | None, subject: str, kind: Any, faults: Faults) -> bool:
    """Note a fault unless `kind` is a column type; whether it is one."""
    if vector_length(kind) is not None:
        return True
    if not meant_as_vector(kind):
        return faults.known(where, subject, kind, COLUMN_TYPES)
    faults.add(
        where,
        f"{subject} {short(kind)} is no vector type",
        f"write vector(N), with N the number of its elements from 1 to {MOST_ELEMENTS:,}: 'vector(384)'",
    )
    return False
