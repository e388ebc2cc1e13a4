"""`rayplat ingest`: everything that the project's sources hold, into its tables.

Knows how the reports are shown; it does not know how events are read.
"""

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import listing
from rayplat.cli.parameters import ProjectAddress

app = single()


@command(app)
def ingest(call: Call, project: ProjectAddress) -> None:
    """Read each topic up to its end as of now, and each reference, exactly once."""
    from rayplat.data.streaming.ingest import ingest_project

    loaded = call.project(project)
    platform = call.connected()
    reports = ingest_project(platform.lake, loaded, platform.settings, platform.bus)
    call.show(reports, lambda: listing(reports))
