"""What makes a declared table hold together: names, columns, keys, times and mode.

Knows tables alone; their layout, sources, checks and expressions are checked beside it.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, get_args

from rayplat.core.project.check_checks import check_checks
from rayplat.core.project.check_layout import check_layout
from rayplat.core.project.check_source import check_source
from rayplat.core.project.check_type import check_type
from rayplat.core.project.column_types import is_column_type, vector_length
from rayplat.core.project.faults import Faults
from rayplat.core.project.source import Stream
from rayplat.core.project.table import MODES, Column, Table

_TABLE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

RESERVED = ("quarantine", "quarantine_replays", "dead", "late", "streams", "training", "serving")
"""Namespaces that the platform writes."""


def check_table(table: Table, faults: Faults) -> None:
    """Note every fault of one table."""
    where, name = table.where, f"table {table.name!r}"
    _check_name(table, faults)
    if not _check_columns(table, faults):
        return
    _check_key(table, faults)
    for role in ("event_time", "known_at"):
        _check_time(table, role, faults)
    if table.known_at is not None and table.event_time is None:
        faults.add(where, f"{name} has known_at and no event_time", "name the event_time, too")
    _check_mode(table, faults)
    check_layout(table, faults)
    check_source(table, faults)
    check_checks(table, faults)


def _check_name(table: Table, faults: Faults) -> None:
    if not isinstance(table.name, str) or not _TABLE.fullmatch(table.name):
        faults.add(
            table.where,
            f"{table.name!r} is no name for a table",
            "write namespace.name in lower case letters, digits and underscores: 'raw.departures'",
        )
    elif (namespace := table.name.partition(".")[0]) in RESERVED:
        faults.add(
            table.where,
            f"table {table.name!r}: the platform writes the namespace {namespace!r}",
            "use another namespace, such as 'raw'",
        )


def _check_columns(table: Table, faults: Faults) -> bool:
    where, name = table.where, f"table {table.name!r}"
    if not faults.expect(where, f"{name}: columns", table.columns, Mapping, "a dict of name to type"):
        return False
    if not table.columns:
        faults.add(where, f"{name} has no columns", 'declare them: columns={"id": "int64"}')
    for column, declared in table.columns.items():
        if not isinstance(column, str) or not _COLUMN.fullmatch(column):
            mend = "start with a letter (an underscore is for the platform's columns); letters, digits, _"
            faults.add(where, f"{name}: {column!r} is no name for a column", mend)
            continue
        subject = f"{name}: column {column!r}"
        if faults.expect(where, subject, declared, Column, "a type's name or an rp.Column"):
            check_type(where, f"{subject}: the type", declared.type, faults)
            for field in ("nullable", "pii"):
                faults.expect(where, f"{subject}: {field}", getattr(declared, field), bool, "True or False")
            for field in ("unit", "description"):
                faults.expect(where, f"{subject}: {field}", getattr(declared, field), str, "text")
    _check_renames(table, faults)
    return True


def _check_renames(table: Table, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    first: dict[str, str] = {}
    for column, declared in table.columns.items():
        old = declared.renamed_from if isinstance(declared, Column) else ""
        if not faults.expect(where, f"{name}: column {column!r}: renamed_from", old, str, "text") or not old:
            continue
        if old in table.columns:
            faults.add(
                where,
                f"{name}: column {column!r} is renamed from {old!r}, which is declared as well",
                "take one of them away: a column has one name",
            )
        if old in first:
            faults.add(
                where,
                f"{name}: the columns {first[old]!r} and {column!r} are both renamed from {old!r}",
                "keep renamed_from on one of them",
            )
        first.setdefault(old, column)


def _check_key(table: Table, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if not faults.expect(where, f"{name}: key", table.key, tuple, "a column's name or several"):
        return
    if not table.key:
        faults.add(where, f"{name} has no key", "name the columns whose values together name a row")
    for column in table.key:
        if faults.known(where, f"{name}: the key column", column, table.columns):
            _check_required(table, column, faults)
            declared: Any = table.columns[column]
            if vector_length(getattr(declared, "type", None)) is not None:
                faults.add(
                    where, f"{name}: the key column {column!r} is a {declared.type}", "use a text or a number"
                )


def _check_mode(table: Table, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if faults.known(where, f"{name}: the mode", table.mode, MODES) and table.mode == "upsert":
        streamed = isinstance(table.source, get_args(Stream))
        if table.event_time is None and not streamed:
            faults.add(
                where,
                f"{name} is upserted, and nothing says which row of a key is the last",
                "name its event_time, or feed it from a stream",
            )
    if table.retention is None:
        return
    if (faults.expect(where, f"{name}: retention", table.retention, timedelta, "a timedelta")) and (
        table.retention <= timedelta(0)
    ):
        faults.add(where, f"{name}: retention is {table.retention}", "give a length of time over 0")
    if table.event_time is None:
        faults.add(
            where, f"{name} has a retention and no event_time", "name the event_time that says its age"
        )


def _check_time(table: Table, role: str, faults: Faults) -> None:
    where, name, column = table.where, f"table {table.name!r}", getattr(table, role)
    if column is None or not faults.known(where, f"{name}: the {role} column", column, table.columns):
        return
    declared = table.columns[column]
    if isinstance(declared, Column) and is_column_type(declared.type) and declared.type != "timestamp":
        faults.add(
            where,
            f"{name}: the {role} column {column!r} is {declared.type}, not timestamp",
            "declare it as 'timestamp' (UTC)",
        )
    _check_required(table, column, faults)


def _check_required(table: Table, column: str, faults: Faults) -> None:
    declared = table.columns[column]
    if isinstance(declared, Column) and declared.nullable is True:
        faults.add(
            table.where,
            f"table {table.name!r}: column {column!r} is nullable, yet the key or a time",
            "declare it with nullable=False",
        )
