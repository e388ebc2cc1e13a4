"""`rayplat data verify|compact|expire|orphans|retain`: the lake's upkeep.

Knows how its reports are shown, and which snapshots the registered models name; it does not know how the
work is done. Whatever deletes has a dry run.
"""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command
from rayplat.cli.output import listing, table
from rayplat.core.errors import NotFoundError, UserError

if TYPE_CHECKING:
    from rayplat.core.project.table import Clustering
    from rayplat.data.lakehouse.damage import RowRange
    from rayplat.data.lakehouse.integrity import VerifyReport
    from rayplat.data.lakehouse.table import LakeTable
    from rayplat.wiring import Platform

OneTable = Annotated[str, typer.Argument(metavar="TABLE", help="namespace.name", show_default=False)]
AnyTable = Annotated[
    str | None,
    typer.Argument(metavar="[TABLE]", help="namespace.name; all if not given.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done.", show_default=False)]
OlderThan = Annotated[str, typer.Option("--older-than", metavar="AGE", help="Such as 30m, 12h or 5d.")]

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_IN_TABLE = re.compile(r".*/(?=(?:data|metadata)/)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add(app: typer.Typer) -> None:
    """Declare the commands on the group `data`."""
    for verb in (verify, compact, expire, orphans, retain):
        command(app)(verb)


def verify(
    call: Call,
    name: AnyTable = None,
    all_snapshots: Annotated[
        bool, typer.Option("--all-snapshots", help="All that are kept, not the current one.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Files read at the same time.", min=1)] = 2,
) -> None:
    """Read every stored byte and compare it with what was written; exit code 6: something is damaged."""
    from rayplat.data.lakehouse.integrity import verify_table

    chosen = _chosen(call.platform(), name)
    found = [verify_table(one.base(), every=all_snapshots, threads=threads) for one in chosen]
    call.show(found, lambda: _verified(found))
    for report in found:
        report.check()


def compact(
    call: Call,
    name: OneTable,
    *,
    dry_run: DryRun = False,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also files that are long enough, to order their rows.")
    ] = False,
    min_files: Annotated[int, typer.Option(help="Leave fewer small files alone.", min=1)] = 5,
    target_mib: Annotated[int, typer.Option(help="How long a file should be, MiB.", min=1)] = 128,
    project: Annotated[
        str | None,
        typer.Option(
            help="Take the clustering from this project, not as it was applied.", show_default=False
        ),
    ] = None,
) -> None:
    """Pack small files, with the rows in the declared order; exit code 4: other writers were too fast."""
    from rayplat.data.lakehouse.maintenance.compact import Compaction
    from rayplat.data.lakehouse.maintenance.plan import Packing
    from rayplat.data.lakehouse.maintenance.tasks import runner

    one = call.platform().lake.table(name)
    packing = Packing(target_mib * 2**20, min_files, everything)
    compaction = Compaction(one, packing, _clustering(call, one, project), run=runner())
    found = compaction.plan() if dry_run else compaction.compact()
    shown = ["partition", "files_before", "files_after", "rows", "bytes_before", "bytes_after", "problem"]
    call.show(found, lambda: listing(found.partitions, shown, f"{name}{' (dry run)' if dry_run else ''}"))
    found.check()


def expire(
    call: Call,
    name: AnyTable = None,
    older_than: OlderThan = "5d",
    keep_last: Annotated[int, typer.Option(help="Keep this many, however old they are.", min=1)] = 100,
    dry_run: DryRun = False,
) -> None:
    """Expire old snapshots and delete what only they name; never what a model, a tag or a pin needs."""
    from rayplat.data.lakehouse.maintenance.expire import Expiry
    from rayplat.data.lakehouse.maintenance.plan import Lifetime
    from rayplat.data.lakehouse.pins import Pins

    platform = call.platform()
    expiry = Expiry(
        Pins(platform.settings), modelled(platform), lifetime=Lifetime(_age(older_than), keep_last)
    )
    act = expiry.plan if dry_run else expiry.expire
    found = [act(one) for one in _chosen(platform, name)]
    rows = [[r.table, len(r.expired), r.kept, r.files, r.metadata_files, r.size] for r in found]
    columns = ["table", "expired", "kept", "data files", "metadata files", "bytes"]
    call.show(found, lambda: table(columns, rows, "dry run" if dry_run else ""))


def orphans(
    call: Call,
    name: AnyTable = None,
    older_than: OlderThan = "3d",
    delete: Annotated[bool, typer.Option("--delete", help="Delete them.", show_default=False)] = False,
) -> None:
    """Show the files that nothing names, and with --delete delete them."""
    from rayplat.data.lakehouse.maintenance.orphans import find_orphans

    age = _age(older_than)
    found = [find_orphans(one, older_than=age, delete=delete) for one in _chosen(call.platform(), name)]
    word = "deleted" if delete else "orphans"
    lines = [
        f"{one.modified:%Y-%m-%d %H:%M} {one.size:>12,} {r.table} {_short(one.path)}"
        for r in found
        for one in r.orphans
    ]
    total = f"{word}: {len(lines) or 'none'}, {sum(r.size for r in found):,} bytes"
    call.show(found, lambda: _lines([*lines, total]))


def retain(call: Call, name: AnyTable = None, dry_run: DryRun = False) -> None:
    """Delete the rows that are older than their table's declared retention."""
    from rayplat.data.lakehouse.maintenance.retention import retain as retain_rows

    found = [retain_rows(one, dry_run=dry_run) for one in _chosen(call.platform(), name)]
    told = [one for one in found if one.column]
    shown = ["table", "column", "before", "whole_files", "partial_files", "rows"]
    call.show(found, lambda: listing(told, shown, "dry run" if dry_run else "deleted"))


def modelled(platform: "Platform") -> Callable[[str], Iterable[int]]:
    """Gives the snapshots of a table that the manifests of registered models name.

    Every call reads the manifests anew. One that cannot be read is an error: what it names is not known, so
    nothing may be expired.
    """
    from rayplat.registry.artifact import read_manifest

    def named(table_name: str) -> set[int]:
        found = set()
        for model in platform.registry.models():
            for version in platform.registry.versions(model):
                pin = read_manifest(version.artifact_uri, version.manifest_sha256).training
                pinned = [(pin.table, pin.snapshot_id), *pin.sources.items()]
                found |= {snapshot_id for name, snapshot_id in pinned if name == table_name}
        return found

    return named


def _chosen(platform: "Platform", name: str | None) -> "list[LakeTable]":
    lake = platform.lake
    return [lake.table(one) for one in ([name] if name else lake.names())]


def _clustering(call: Call, one: "LakeTable", project: str | None) -> "Clustering | None":
    from rayplat.data.lakehouse.maintenance.terms import clustering_of

    if project is None:
        return clustering_of(one.head().properties)
    declared = {table.name: table for table in call.project(project).tables}
    if one.name not in declared:
        raise NotFoundError(
            f"the project declares no table {one.name}", f"it declares: {', '.join(declared) or 'none'}"
        )
    return declared[one.name].cluster_by


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"--older-than {text!r} is no age", "write for example 30m, 12h or 5d")
    return timedelta(**{_UNITS[match[2]]: float(match[1])})


def _verified(found: "list[VerifyReport]") -> Any:
    from rich.console import Group

    columns = ["table", "snapshots", "files", "rows", "bytes", "damaged", "without a digest", "GB/s"]
    rows = [
        [
            r.table,
            len(r.snapshots),
            r.files,
            r.rows,
            r.size,
            len(r.damaged),
            len(r.unproven),
            r.size / r.seconds / 1e9,
        ]
        for r in found
    ]
    lines = [
        f"{r.table} {_short(d.path)}\n    {d.kind}: {d.detail}\n    {d.affected:,} rows: {_places(d.rows)}"
        for r in found
        for d in r.damaged
    ]
    return Group(table(columns, rows), _lines(lines))


def _places(rows: "Iterable[RowRange]") -> str:
    return ", ".join(f"{one.column}[{one.first}:{one.end}]" for one in rows) or "-"


def _short(path: str) -> str:
    """A file's path inside its table's folder: the whole of it is in the JSON."""
    return _IN_TABLE.sub("", path)


def _lines(lines: Iterable[str]) -> Any:
    """Lines with file names, which are too long for a table's cells."""
    from rich.text import Text

    return Text("\n".join(lines), overflow="fold")
