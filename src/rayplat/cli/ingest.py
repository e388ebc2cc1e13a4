"""`rayplat ingest`: the project's streams, into its tables, once or for ever; and how far they are.

Knows how the service is started and stopped and how reports are shown; it does not know how events are read.
"""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import listing, table
from rayplat.cli.parameters import ProjectAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rayplat.core.project.project import Project
    from rayplat.data.streaming.report import IngestReport
    from rayplat.wiring import Platform


class _RunByDefault(TyperGroup):
    """`rayplat ingest PROJECT` is `rayplat ingest run PROJECT`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is called; what is no command is the address of a project."""
        known = bool(args) and (args[0] in self.commands or args[0].startswith("-"))
        return super().resolve_command(ctx, args if known else ["run", *args])


app = group("Take in what the project's sources hold, and go on doing so.")
app.info.cls = _RunByDefault

Once = Annotated[bool, typer.Option("--once", help="Read up to the end as of now, and stop.")]
Online = Annotated[
    bool, typer.Option("--online/--no-online", help="Bring new rows into the online values of the views.")
]


@command(app)
def run(call: Call, project: ProjectAddress, once: Once = False, online: Online = True) -> None:
    """Feed all tables of a project, each record exactly once, until SIGTERM or Ctrl-C.

    Then what was read is committed, and the exit code is 0. Another ingest of the same table is fenced: the
    slower one ends with exit code 4. The online values of the project's feature views follow each commit.
    """
    loaded = call.project(project)
    platform = call.connected()
    with _following(platform, loaded, online):
        reports = _ingest(call, platform, loaded, once)
    call.show(reports, lambda: listing(reports))


def _ingest(call: Call, platform: "Platform", loaded: "Project", once: bool) -> "list[IngestReport]":
    if once:
        from rayplat.data.streaming.ingest import ingest_project

        return ingest_project(platform.lake, loaded, platform.settings, platform.bus)
    call.note("ingesting; SIGTERM or Ctrl-C commits what was read and ends")
    return _serve(platform, loaded)


@contextmanager
def _following(platform: "Platform", project: "Project", wanted: bool) -> "Iterator[None]":
    """The online values follow what is committed meanwhile, where there are views and it is wanted."""
    from rayplat.features.streaming import OnlineFollower, followed

    views = followed(project) if wanted else []
    if not views:
        yield
        return
    from functools import partial

    from rayplat.data.lakehouse.catalog import Lakehouse
    from rayplat.features.materialize import materialize

    # A lakehouse of its own: the follower reads on another thread.
    lake = Lakehouse(platform.settings)
    try:
        with OnlineFollower(views, partial(materialize, lake, platform.online), platform.bus):
            yield
    finally:
        lake.close()


@command(app)
def status(call: Call, project: ProjectAddress) -> None:
    """How far each table is behind its source, by partition; rates, freshness, and what was put aside."""
    from rich.console import Group

    from rayplat.data.streaming.status import ingest_status

    platform = call.platform()
    found = ingest_status(platform.lake, call.project(project), platform.settings)
    shown = ["table", "source", "lag", "behind_s", "last_commit", "records_per_s", "totals", "trouble"]
    lanes = [[s.table, p.partition, p.committed, p.high, p.lag] for s in found for p in s.partitions]
    columns = ["table", "partition", "committed", "high", "lag"]
    call.show(found, lambda: Group(listing(found, shown), table(columns, lanes, "partitions")))


def _serve(platform: "Platform", project: "Project") -> "list[IngestReport]":
    """Run the service until a signal asks it to stop."""
    import signal

    from rayplat.data.streaming.metrics_page import serve_metrics
    from rayplat.data.streaming.service import IngestService

    service = IngestService(platform.lake, platform.settings, platform.bus)
    before = {
        number: signal.signal(number, lambda *_: service.stop()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with serve_metrics(platform.settings.ingest.metrics_port):
            return service.run(project)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
