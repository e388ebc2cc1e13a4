"""What makes a declared table hold together: names, columns, keys, times, source and checks.

Knows tables alone; views and models are checked beside it.
"""

import re
from collections.abc import Mapping
from typing import Any

from rayplat.core.errors import Where
from rayplat.core.project.expressions import fault_of_transform, missing_inputs
from rayplat.core.project.faults import Faults
from rayplat.core.project.table import COLUMN_TYPES, Check, Column, Kafka, Reference, Table

_TABLE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
RESERVED = ("quarantine", "training", "serving")
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
    _check_source(table, faults)
    if faults.expect(where, f"{name}: checks", table.checks, tuple, "a list of checks"):
        for check in table.checks:
            _check_check(table, check, faults)


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
            faults.known(where, f"{subject}: the type", declared.type, COLUMN_TYPES)
            for field in ("nullable", "pii"):
                faults.expect(where, f"{subject}: {field}", getattr(declared, field), bool, "True or False")
    return True


def _check_key(table: Table, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if not faults.expect(where, f"{name}: key", table.key, tuple, "a column's name or several"):
        return
    if not table.key:
        faults.add(where, f"{name} has no key", "name the columns whose values together name a row")
    for column in table.key:
        if faults.known(where, f"{name}: the key column", column, table.columns):
            _check_required(table, column, faults)


def _check_time(table: Table, role: str, faults: Faults) -> None:
    where, name, column = table.where, f"table {table.name!r}", getattr(table, role)
    if column is None or not faults.known(where, f"{name}: the {role} column", column, table.columns):
        return
    declared = table.columns[column]
    if isinstance(declared, Column) and declared.type in COLUMN_TYPES and declared.type != "timestamp":
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


def _check_source(table: Table, faults: Faults) -> None:
    where, name, source = table.where, f"table {table.name!r}", table.source
    if source is None:
        return
    if isinstance(source, Reference):
        faults.takes(where, f"{name}: the function that reads it", source.read, 0)
    elif faults.expect(where, f"{name}: source", source, Kafka, "rp.Kafka(…) or rp.Reference(…)"):
        _check_kafka(where, name, source, faults)
        if source.replay is not None and table.event_time is None:
            faults.add(where, f"{name} is replayed and has no event_time", "name its event_time")


def _check_kafka(where: Where, name: str, source: Kafka, faults: Faults) -> None:
    if faults.expect(where, f"{name}: topic", source.topic, str, "text") and not _TOPIC.fullmatch(
        source.topic
    ):
        faults.add(where, f"{name}: {source.topic!r} is no name for a topic", "use letters, digits, . _ -")
    if (faults.expect(where, f"{name}: partitions", source.partitions, int, "a number of 1 or more")) and (
        source.partitions < 1
    ):
        faults.add(where, f"{name}: {source.partitions} partitions", "give 1 or more")
    if source.replay is not None:
        faults.takes(where, f"{name}: the replay function", source.replay, 0)


def _check_check(table: Table, check: Any, faults: Faults) -> None:
    where, name = table.where, f"table {table.name!r}"
    if not faults.expect(where, f"{name}: a check", check, Check, "a check such as rp.in_range(…)"):
        return
    faults.known(where, f"{name}: the checked column", check.column, table.columns)
    check_expression(where, f"{name}: check {check.reason!r}", check.good, table, faults, boolean=True)


def check_expression(
    where: Where, subject: str, expr: Any, source: Table, faults: Faults, *, boolean: bool = False
) -> None:
    """Note what is wrong with a row transform over the columns of `source`."""
    import polars as pl

    if not faults.expect(where, subject, expr, pl.Expr, "a Polars expression such as pl.col('x') > 1"):
        return
    if check_inputs(where, subject, expr, source, faults):
        fault = fault_of_transform(expr, source.columns, boolean=boolean)
        if fault:
            faults.add(where, f"{subject} {fault[0]}", fault[1])


def check_inputs(where: Where, subject: str, expr: Any, source: Table, faults: Faults) -> bool:
    """Note the columns that `expr` reads and `source` does not have; False if its types are unknown."""
    missing = missing_inputs(expr, source.columns)
    for column in missing:
        faults.known(where, f"{subject}: in {source.name!r} the column", column, source.columns)
    typed = all(
        isinstance(c, Column) and isinstance(c.type, str) and c.type in COLUMN_TYPES
        for c in (source.columns[n] for n in expr.meta.root_names() if n in source.columns)
    )
    return typed and not missing
