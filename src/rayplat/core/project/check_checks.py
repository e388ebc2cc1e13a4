"""What makes declared checks and row expressions hold together.

Knows expressions over one table's columns; how a check is carried out is known to `rayplat.data.quality`.
"""

from typing import Any

from rayplat.core.errors import Where
from rayplat.core.project.check import Check
from rayplat.core.project.expressions import fault_of_transform, missing_inputs
from rayplat.core.project.faults import Faults
from rayplat.core.project.table import COLUMN_TYPES, Column, Table


def check_checks(table: Table, faults: Faults) -> None:
    """Note every fault of the table's checks."""
    if faults.expect(table.where, f"table {table.name!r}: checks", table.checks, tuple, "a list of checks"):
        for check in table.checks:
            _check_check(table, check, faults)


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
