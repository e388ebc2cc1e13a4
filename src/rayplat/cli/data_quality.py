"""`rayplat data quarantine|reconcile|profile`: what a table's rows are worth, and where the others are.

Knows how findings are shown; it does not know how they are found.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, listing, table
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError
from rayplat.core.project.source import Json, Kafka, Kinesis
from rayplat.core.project.table import Table

if TYPE_CHECKING:
    from rayplat.core.settings import Settings
    from rayplat.data.profile.profile import TableProfile
    from rayplat.data.quality.replay import Decode

quarantine = group("Records that did not become rows: why, and how they do after a mend.")

TableName = Annotated[str, typer.Argument(metavar="TABLE", help="namespace.name", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Only records whose reason has this text in it.")]

_PROJECT = typer.Option("--project", metavar="PROJECT", help="Tells which columns are personal data.")
_FROM = typer.Option("--from", metavar="FILE", help="Mended rows: JSON lines with _partition and _offset.")


def add(app: typer.Typer) -> None:
    """Put these commands under `rayplat data`."""
    app.add_typer(quarantine, name="quarantine")
    command(app)(reconcile)
    command(app)(profile)


@command(quarantine, "list")
def list_quarantine(
    call: Call,
    name: Annotated[str | None, typer.Argument(metavar="[TABLE]", show_default=False)] = None,
) -> None:
    """List what is set aside, by table and kind, with the reasons."""
    from rayplat.data.quality.quarantine import list_aside

    found = list_aside(call.platform().lake, name)
    columns = ["table", "kind", "open", "replayed", "in_flight", "reasons", "first", "last"]
    call.show(found, lambda: listing(found, columns, "quarantine"))


@command(quarantine, "show")
def show_quarantine(
    call: Call,
    name: TableName,
    rows: Annotated[int, typer.Option(help="How many records to show.", min=0)] = 20,
    reason: Reason = "",
) -> None:
    """Show records that are set aside: what they hold, why they are there, where they came from."""
    from rayplat.data.quality.quarantine import show_aside

    found = show_aside(call.platform().lake, name, rows, reason)
    columns = ["partition", "offset", "kind", "reason", "record"]
    call.show(found, lambda: listing(found, columns, name))


@command(quarantine, "replay")
def replay_quarantine(
    call: Call,
    project: ProjectAddress,
    name: TableName,
    mended: Annotated[Path | None, _FROM] = None,
    reason: Reason = "",
) -> None:
    """Decode and check records again, as the project declares the table now; the good ones become rows."""
    from rayplat.data.quality.mended import read_mended
    from rayplat.data.quality.replay import replay

    declared = _declared(call, project, name)
    platform = call.platform()
    rows = read_mended(mended) if mended is not None else None
    decode = _decoder(declared, platform.settings, as_rows=mended is not None)
    report = replay(platform.lake, declared, decode, platform.bus, mended=rows, reason=reason)
    call.show(report, lambda: fields({**vars_without(report, "snapshots"), "snapshots": report.snapshots}))


def vars_without(item: Any, *left_out: str) -> dict[str, Any]:
    """The fields of a dataclass, some left out."""
    from rayplat.cli.output import vars_of

    return {name: value for name, value in vars_of(item).items() if name not in left_out}


def _declared(call: Call, project: str, name: str) -> Table:
    tables = {one.name: one for one in call.project(project).tables}
    if name not in tables:
        raise NotFoundError(f"project {project} declares no table {name!r}", f"it has: {', '.join(tables)}")
    return tables[name]


def _decoder(declared: Table, settings: "Settings", *, as_rows: bool) -> "Decode":
    """What decodes the table's records; mended ones, and those of files and databases, are JSON rows."""
    from rayplat.data.streaming.formats.decoder import decoder

    source = declared.source
    if as_rows or not isinstance(source, Kafka | Kinesis):
        return decoder(Json(), declared.columns).decode
    return decoder(
        source.format,
        declared.columns,
        settings.schema_registry,
        envelope=source.envelope,
        key=declared.key,
    ).decode


def reconcile(call: Call, name: TableName) -> None:
    """Prove that accepted + quarantined + dead + late + ignored = received; exit 1 where it does not hold."""
    from rayplat.data.quality.reconcile import reconcile as prove

    proof = prove(call.platform().lake, name)

    def text() -> Any:
        from rich.console import Group
        from rich.text import Text

        verdict = ("everything adds up", "bold green") if proof.holds else ("it does not add up", "bold red")
        shown = vars_without(proof, "table", "holds", "discrepancies")
        found = listing(proof.discrepancies, title="discrepancies") if proof.discrepancies else Text("")
        return Group(Text.assemble(f"{name}: ", verdict), fields(shown), found)

    call.show(proof, text)
    if not proof.holds:
        raise typer.Exit(1)


def profile(
    call: Call,
    name: TableName,
    snapshot: Annotated[int | None, typer.Option(help="Read this snapshot instead of the current.")] = None,
    project: Annotated[str | None, _PROJECT] = None,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Write an HTML page, too.")
    ] = None,
) -> None:
    """Count, bound and sketch every column in one pass; values of personal data are not shown."""
    from rayplat.data.profile.page import write_page
    from rayplat.data.profile.profile import profile as take

    hidden = []
    if project is not None:
        hidden = [n for n, column in _declared(call, project, name).columns.items() if column.pii]
    found = take(call.platform().lake.table(name), snapshot_id=snapshot, hidden=hidden)
    if page is not None:
        call.note(f"page: {write_page(found, page)}")
    call.show(found, lambda: _profile_text(found))


def _profile_text(found: "TableProfile") -> Any:
    from rayplat.data.profile.words import distinct, share, sparkline, value

    rows = [
        [
            column.name,
            column.type,
            share(column.nulls, column.rows),
            distinct(column),
            "(personal data)" if column.hidden else value(column.least),
            value((column.quantiles or {}).get("p50")),
            value(column.greatest),
            value(column.mean),
            sparkline(column.histogram.counts)
            if column.histogram
            else ", ".join(value(t.value) for t in column.top[:3]),
        ]
        for column in found.columns
    ]
    title = f"{found.table}: {found.rows:,} rows, {found.seconds:.1f} s"
    names = ["column", "type", "missing", "distinct", "min", "median", "max", "mean", "values"]
    return table(names, rows, title)
