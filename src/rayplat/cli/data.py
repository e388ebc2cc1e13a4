"""`rayplat data`: the lakehouse's tables.

Knows how tables, rows and snapshots are shown; it does not know how they are kept.
"""

from typing import Annotated, Any

import typer

from rayplat.cli import data_maintenance, data_quality, data_schema
from rayplat.cli.command import Call, command, group
from rayplat.cli.output import listing, table

app = group("Tables, their rows and their history.")

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="namespace.name", show_default=False)]


@command(app)
def tables(call: Call) -> None:
    """List the tables with their rows and their current snapshot."""
    lake = call.platform().lake
    found = [
        {"table": name, "rows": one.count(), "snapshot_id": one.snapshot_id()}
        for name in lake.names()
        for one in (lake.table(name),)
    ]
    call.show(found, lambda: listing(found, ["table", "rows", "snapshot_id"], "tables"))


@command(app)
def show(
    call: Call,
    name: TableName,
    rows: Annotated[int, typer.Option(help="How many rows to show.", min=0)] = 10,
    where: Annotated[str | None, typer.Option(help="A filter, such as \"origin = 'JFK'\".")] = None,
    snapshot: Annotated[int | None, typer.Option(help="Read this snapshot instead of the current.")] = None,
) -> None:
    """Show a table's columns and some of its rows."""
    one = call.platform().lake.table(name)
    columns = [{"column": field.name, "type": str(field.type)} for field in one.schema()]
    data = one.read(snapshot_id=snapshot, where=where)
    head = data.slice(0, rows).to_pylist()
    found = {"table": name, "rows": data.num_rows, "columns": columns, "head": head}

    def text() -> Any:
        from rich.console import Group

        shown = table(data.column_names, [list(row.values()) for row in head], f"{data.num_rows:,} rows")
        return Group(listing(columns), shown)

    call.show(found, text)


@command(app)
def history(call: Call, name: TableName) -> None:
    """List a table's snapshots, oldest first, with the source offsets that each carries."""
    found = call.platform().lake.table(name).history()
    shown = ["snapshot_id", "at", "operation", "rows_added", "rows_total", "source", "offsets"]
    call.show(found, lambda: listing(found, shown, name))


data_schema.add(app)
data_maintenance.add(app)
data_quality.add(app)
