"""Summaries: what a snapshot's counts and totals are.

Knows the names of the Iceberg specification (Optional Snapshot Summary Fields); it does not know files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_TOTALS = {
    "total-data-files": ("added-data-files", "deleted-data-files"),
    "total-records": ("added-records", "deleted-records"),
    "total-files-size": ("added-files-size", "removed-files-size"),
}
_ALWAYS_ZERO = ("total-delete-files", "total-position-deletes", "total-equality-deletes")


def summary(
    operation: str,
    added: Sequence[Mapping[str, Any]],
    removed: Sequence[Mapping[str, Any]],
    parent: Mapping[str, Any] | None,
    properties: Mapping[str, str],
) -> dict[str, str]:
    """The summary of a snapshot.

    Args:
        operation: `append`, `replace`, `overwrite` or `delete`.
        added, removed: descriptions of data files.
        parent: the snapshot before; None for the first.
        properties: what else it is to say.
    """
    counted = {
        **_counts("added-data-files", "added-records", "added-files-size", added),
        **_counts("deleted-data-files", "deleted-records", "removed-files-size", removed),
    }
    before = parent.get("summary", {}) if parent else {}
    totals = {
        name: str(int(before.get(name, 0)) + int(counted.get(plus, 0)) - int(counted.get(minus, 0)))
        for name, (plus, minus) in _TOTALS.items()
    }
    zeros = {name: before.get(name, "0") for name in _ALWAYS_ZERO}
    return {"operation": operation, **counted, **totals, **zeros, **properties}


def _counts(files: str, records: str, size: str, described: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    if not described:
        return {}
    return {
        files: str(len(described)),
        records: str(sum(int(d["record_count"]) for d in described)),
        size: str(sum(int(d["file_size_in_bytes"]) for d in described)),
    }
