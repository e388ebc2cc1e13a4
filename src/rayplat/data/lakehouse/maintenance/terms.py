"""What a table declares about its maintenance, as its properties keep it.

Knows the properties' form; it does not know what is done by them.
"""

import json
from collections.abc import Mapping
from datetime import timedelta

from rayplat.core.errors import IntegrityError
from rayplat.core.project.table import Clustering
from rayplat.data.lakehouse.declared import CLUSTER_BY, EVENT_TIME, RETENTION


def clustering_of(properties: Mapping[str, str]) -> Clustering | None:
    """The declared clustering; None: the table's sort order is all.

    Raises:
        IntegrityError: the property is not what was written.
    """
    told = properties.get(CLUSTER_BY)
    if not told:
        return None
    try:
        found = json.loads(told)
        return Clustering(tuple(found["columns"]), found["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise _strange(CLUSTER_BY, told) from error


def retention_of(properties: Mapping[str, str]) -> tuple[str, timedelta] | None:
    """The event-time column and how long rows are kept by it; None: for ever.

    Raises:
        IntegrityError: the property is not what was written.
    """
    column, told = properties.get(EVENT_TIME, ""), properties.get(RETENTION, "")
    if not column or not told:
        return None
    try:
        return column, timedelta(seconds=float(told))
    except ValueError as error:
        raise _strange(RETENTION, told) from error


def _strange(name: str, told: str) -> IntegrityError:
    return IntegrityError(f"the table property {name} is {told!r}", "run `rayplat data apply` again")
