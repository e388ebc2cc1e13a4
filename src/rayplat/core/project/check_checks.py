"""What makes declared checks and row expressions hold together.

Knows expressions over one table's columns; how a check is carried out is known to `rayplat.data.quality`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rayplat.core.errors import Where
from rayplat.core.project.check import (
    ON_FAIL,
    Check,
    Distribution,
    Fresh,
    References,
    TableCheck,
    Unique,
    Volume,
)
from rayplat.core.project.column_types import is_column_type, vector_length
from rayplat.core.project.expressions import fault_of_transform, missing_inputs
from rayplat.core.project.faults import Faults
from rayplat.core.project.table import Column, Table

_NUMERIC = ("int32", "int64", "float32", "float64")
_ABOUT_ROWS = (Unique, References)


def check_checks(table: Table, faults: Faults) -> None:
    """Note every fault of the table's checks."""
    if faults.expect(table.where, f"table {table.name!r}: checks", table.checks, tuple, "a list of checks"):
        for check in table.checks:
            _check_check(table, check, faults)
    for promise in table.table_checks:
        _check_on_fail(table, promise, faults)
        _TABLE_CHECKS[type(promise)](table, promise, faults)


def check_references(tables: Sequence[Table], faults: Faults) -> None:
    """Note every reference to a table or column that the project does not declare, or of another type."""
    known = {table.name: table for table in tables if isinstance(table.name, str)}
    for table in tables:
        for check in table.table_checks:
            if isinstance(check, References):
                _check_reference(table, check, known, faults)


def _check_reference(table: Table, check: References, known: dict[str, Table], faults: Faults) -> None:
    subject = f"table {table.name!r}: references({check.column!r})"
    if not faults.known(table.where, f"{subject}: the table", check.table, known):
        return
    to = known[check.table].columns
    if not faults.known(table.where, f"{subject}: in {check.table!r} the column", check.to, to):
        return
    have, want = table.columns.get(check.column), to[check.to]
    if isinstance(have, Column) and isinstance(want, Column) and have.type != want.type:
        faults.add(
            table.where,
            f"{subject} is {have.type}, and {check.table}.{check.to} is {want.type}",
            "declare both with the same type",
        )


def _check_on_fail(table: Table, check: TableCheck, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}: on_fail"
    if faults.known(table.where, subject, check.on_fail, ON_FAIL) and (
        check.on_fail == "quarantine" and not isinstance(check, _ABOUT_ROWS)
    ):
        faults.add(
            table.where,
            f"{subject} is 'quarantine', and no single row is at fault when it fails",
            "use on_fail='warn' or on_fail='stop'",
        )


def _check_unique(table: Table, check: Any, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}"
    if not check.columns:
        faults.add(table.where, f"{subject} names no column", "name the columns that are unique together")
    for column in check.columns:
        if faults.known(table.where, f"{subject}: the column", column, table.columns):
            _refuse_vector(table, subject, column, faults)


def _check_column(table: Table, check: Any, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}"
    if faults.known(table.where, f"{subject}: the column", check.column, table.columns):
        _refuse_vector(table, subject, check.column, faults)


def _refuse_vector(table: Table, subject: str, column: str, faults: Faults) -> None:
    declared = table.columns[column]
    if isinstance(declared, Column) and vector_length(declared.type) is not None:
        faults.add(
            table.where,
            f"{subject}: the column {column!r} is a {declared.type}, which names nothing",
            "use a text or a number",
        )


def _check_fresh(table: Table, check: Any, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}"
    _needs_event_time(table, subject, faults)
    if faults.expect(table.where, f"{subject}: within", check.within, timedelta, "a timedelta") and (
        check.within <= timedelta(0)
    ):
        faults.add(table.where, f"{subject}: within is {check.within}", "give a length of time over 0")


def _check_volume(table: Table, check: Any, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}"
    good = [
        faults.expect(table.where, f"{subject}: {bound}", getattr(check, bound), (int, float), "a number")
        for bound in ("low", "high")
    ]
    if all(good) and not 0 <= check.low <= check.high:
        faults.add(
            table.where, f"{subject}: between {check.low} and {check.high} times", "give 0 <= low <= high"
        )


def _check_distribution(table: Table, check: Any, faults: Faults) -> None:
    subject = f"table {table.name!r}: {_named(check)}"
    _needs_event_time(table, subject, faults)
    if faults.known(table.where, f"{subject}: the column", check.column, table.columns):
        declared = table.columns[check.column]
        if isinstance(declared, Column) and is_column_type(declared.type) and declared.type not in _NUMERIC:
            faults.add(
                table.where,
                f"{subject}: {check.column!r} is {declared.type}, not a number",
                f"use a column of type {', '.join(_NUMERIC)}",
            )
    if faults.expect(table.where, f"{subject}: psi", check.psi, (int, float), "a number over 0") and not (
        0 < check.psi < math.inf
    ):
        faults.add(table.where, f"{subject}: psi is {check.psi}", "give a number over 0; 0.2 is usual")


def _needs_event_time(table: Table, subject: str, faults: Faults) -> None:
    if table.event_time is None:
        faults.add(table.where, f"{subject} goes by the event time, and there is none", "name the event_time")


def _named(check: TableCheck) -> str:
    return type(check).__name__.lower()


_TABLE_CHECKS: dict[type, Callable[[Table, Any, Faults], None]] = {
    Unique: _check_unique,
    References: _check_column,
    Fresh: _check_fresh,
    Volume: _check_volume,
    Distribution: _check_distribution,
}


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
    check_expression_over(where, subject, expr, source.columns, source.name, faults, boolean=boolean)


def check_expression_over(  # noqa: PLR0917  # a place, a subject, and what is looked at
    where: Where,
    subject: str,
    expr: Any,
    columns: Mapping[str, Column],
    of: str,
    faults: Faults,
    *,
    boolean: bool = False,
) -> None:
    """Note what is wrong with a row transform over columns `of` something that has a name."""
    import polars as pl

    if not faults.expect(where, subject, expr, pl.Expr, "a Polars expression such as pl.col('x') > 1"):
        return
    if _check_inputs(where, subject, expr, columns, of, faults):
        fault = fault_of_transform(expr, columns, boolean=boolean)
        if fault:
            faults.add(where, f"{subject} {fault[0]}", fault[1])


def check_inputs(where: Where, subject: str, expr: Any, source: Table, faults: Faults) -> bool:
    """Note the columns that `expr` reads and `source` does not have; False if its types are unknown."""
    return _check_inputs(where, subject, expr, source.columns, source.name, faults)


def _check_inputs(  # noqa: PLR0917  # as above
    where: Where, subject: str, expr: Any, columns: Mapping[str, Column], of: str, faults: Faults
) -> bool:
    missing = missing_inputs(expr, columns)
    for column in missing:
        faults.known(where, f"{subject}: in {of!r} the column", column, columns)
    typed = all(
        isinstance(c, Column) and is_column_type(c.type)
        for c in (columns[n] for n in expr.meta.root_names() if n in columns)
    )
    return typed and not missing
