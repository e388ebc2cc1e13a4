"""What makes a table's layout hold together: partitioning, order, clustering and the form of its files.

Knows which transform takes which type (the Iceberg specification, partition transforms); it does not
know how files are written.
"""

from typing import Any

from rayplat.core.errors import Where
from rayplat.core.project.column_types import is_column_type, vector_length
from rayplat.core.project.faults import Faults, short
from rayplat.core.project.table import (
    LAYOUTS,
    Clustering,
    Column,
    Partitioning,
    Table,
    parse_partitioning,
)

_DATES = ("date", "timestamp")
_TAKES: dict[str, tuple[str, ...]] = {
    # A float as a partition would make one for every value, and one for NaN.
    "identity": ("string", "int32", "int64", "bool", "date", "timestamp", "binary"),
    "year": _DATES,
    "month": _DATES,
    "day": _DATES,
    "hour": ("timestamp",),
    "bucket": ("string", "int32", "int64", "date", "timestamp", "binary"),
    "truncate": ("string", "int32", "int64", "binary"),
}
_MOST_BUCKETS = 2**31 - 1
_TERM = "write a column, or for example day(event_time), bucket(16, id), truncate(4, code)"
_CLUSTERINGS = ("linear", "zorder")


def check_layout(table: Table, faults: Faults) -> None:
    """Note every fault of a table's partition_by, sort_by, cluster_by and layout."""
    where, name = table.where, f"table {table.name!r}"
    _check_partitioning(table, where, name, faults)
    _check_order(table, where, name, faults)
    _check_clustering(table, where, name, faults)
    faults.known(where, f"{name}: the layout", table.layout, LAYOUTS)


def _check_partitioning(table: Table, where: Where, name: str, faults: Faults) -> None:
    if not faults.expect(where, f"{name}: partition_by", table.partition_by, tuple, "a term or several"):
        return
    seen: dict[Partitioning, str] = {}
    times: dict[str, str] = {}
    for text in table.partition_by:
        term = parse_partitioning(text) if isinstance(text, str) else None
        if term is None:
            faults.add(where, f"{name} is partitioned by {short(text)}", _TERM)
            continue
        if term in seen:
            faults.add(where, f"{name} is partitioned by {text!r} twice", "take one of them away")
        seen[term] = text
        timed = term.transform in ("year", "month", "day", "hour")
        if timed and times.setdefault(term.column, text) != text:
            faults.add(
                where,
                f"{name} is partitioned by {times[term.column]!r} and {text!r}",
                "keep the finer one: it holds the other",
            )
        _check_term(table, term, text, faults)


def _check_term(table: Table, term: Partitioning, text: str, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if term.transform in ("bucket", "truncate") and not 1 <= term.width <= _MOST_BUCKETS:
        faults.add(where, f"{name}: {text!r} has the width {term.width}", "give 1 or more")
    kind = _type(table, f"{name}: {text!r}: the column", term.column, faults)
    if kind is not None and kind not in _TAKES[term.transform]:
        faults.add(
            where,
            f"{name}: {text!r} takes a column that is {kind}",
            f"{term.transform} takes {', '.join(_TAKES[term.transform])}",
        )


def _check_order(table: Table, where: Where, name: str, faults: Faults) -> None:
    if not faults.expect(where, f"{name}: sort_by", table.sort_by, tuple, "a column or several"):
        return
    seen: set[str] = set()
    for text in table.sort_by:
        if not faults.expect(where, f"{name}: a term of sort_by", text, str, "a column, or -column"):
            continue
        column = text.removeprefix("-")
        _check_ordered(table, f"{name}: the sort column", column, faults)
        if column in seen:
            faults.add(where, f"{name} is sorted by {column!r} twice", "take one of them away")
        seen.add(column)


def _check_clustering(table: Table, where: Where, name: str, faults: Faults) -> None:
    cluster: Any = table.cluster_by
    if cluster is None:
        return
    wanted = "rp.zorder(…) or rp.linear(…)"
    if not faults.expect(where, f"{name}: cluster_by", cluster, Clustering, wanted):
        return
    faults.known(where, f"{name}: the clustering", cluster.kind, _CLUSTERINGS)
    if not faults.expect(where, f"{name}: the columns of cluster_by", cluster.columns, tuple, "columns"):
        return
    if not cluster.columns:
        faults.add(where, f"{name} is clustered by nothing", "name its columns, or leave cluster_by out")
    for column in cluster.columns:
        _check_ordered(table, f"{name}: the clustering column", column, faults)


def _check_ordered(table: Table, subject: str, column: str, faults: Faults) -> None:
    kind = _type(table, subject, column, faults)
    if vector_length(kind) is not None:
        faults.add(table.where, f"{subject} {column!r} is a {kind}, which has no order", "use another column")


def _type(table: Table, subject: str, column: str, faults: Faults) -> str | None:
    """The declared type of a column; None where it has none that is known, which is told elsewhere."""
    if not faults.known(table.where, subject, column, table.columns):
        return None
    declared = table.columns[column]
    good = isinstance(declared, Column) and is_column_type(declared.type)
    return declared.type if good else None
