"""Migration: all declared tables of a project against the tables that there are.

Knows that a project changes as a whole or not at all, as far as it can be told beforehand; each table
is one transaction. Tables that are not declared are listed, and never touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rayplat.core.project.check_table import RESERVED
from rayplat.core.project.table import Table
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.declared import declared
from rayplat.data.lakehouse.evolution import TablePlan


@dataclass(frozen=True, slots=True)
class ProjectPlan:
    """What it takes to make the tables of a project what is declared.

    Attributes:
        tables: a plan for each declared table, in the order of the declarations; without steps and
            refusals where the table is as declared.
        undeclared: tables that the project does not declare and the platform does not keep itself.
        applied: whether the steps were made.
    """

    tables: tuple[TablePlan, ...]
    undeclared: tuple[str, ...]
    applied: bool = False

    @property
    def refused(self) -> bool:
        """Whether anything cannot be done; then nothing is."""
        return any(table.refused for table in self.tables)


def plan_table(lake: Lakehouse, table: Table, *, allow_drop: bool = False) -> TablePlan:
    """What it takes to make one table what is declared; nothing is changed.

    Raises:
        UserError: a type or a term of the partitioning is wrong.
    """
    return lake.plan(declared(table), allow_drop=allow_drop)


def apply_table(lake: Lakehouse, table: Table, *, allow_drop: bool = False) -> TablePlan:
    """Make one table what is declared, in one transaction; it is planned again on the table as it is now.

    Raises:
        UserError: it cannot become that; nothing was changed.
        ConflictError: other processes keep changing the same table.
    """
    return lake.apply(declared(table), allow_drop=allow_drop)


def plan_project(lake: Lakehouse, tables: Sequence[Table], *, allow_drop: bool = False) -> ProjectPlan:
    """What it takes to make all tables what is declared; nothing is changed."""
    names = {table.name for table in tables}
    undeclared = [
        name for name in lake.names() if name not in names and name.partition(".")[0] not in RESERVED
    ]
    plans = tuple(plan_table(lake, table, allow_drop=allow_drop) for table in tables)
    return ProjectPlan(plans, tuple(undeclared))


def apply_project(lake: Lakehouse, tables: Sequence[Table], *, allow_drop: bool = False) -> ProjectPlan:
    """Make all tables what is declared; where one is refused, none is changed.

    Returns:
        What was done, or what was refused.

    Raises:
        UserError: a table was changed by somebody else between the plan and its transaction, and cannot
            become what is declared any more; tables before it are done, and those after it are not.
        ConflictError: other processes keep changing the same table.
    """
    found = plan_project(lake, tables, allow_drop=allow_drop)
    if found.refused:
        return found
    done = tuple(apply_table(lake, table, allow_drop=allow_drop) for table in tables)
    return ProjectPlan(done, found.undeclared, applied=True)
