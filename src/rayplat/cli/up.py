"""`rayplat up`, `down` and `status`: the platform's processes on this machine.

Knows how they are shown; starting and stopping is known in `cluster.session`.
"""

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import fields, table

app = single()


@command(app)
def up(call: Call) -> None:
    """Start the platform's Ray on this machine, or find it running."""
    from rayplat.cluster.session import up as start

    info = start(call.settings())
    state = "started" if info.started else "was running"
    call.show(info, lambda: fields({"ray": f"{info.address} ({state})", "dashboard": info.dashboard}))


@command(app)
def down(call: Call) -> None:
    """Stop every process that the platform runs on this machine; state on disk is kept."""
    from rayplat.cluster.session import down as stop

    settings = call.settings()
    ended = stop(settings)
    call.show({"ended": ended}, lambda: f"{len(ended)} processes ended; {settings.home} is kept")


@command(app)
def status(call: Call) -> None:
    """What runs, and what it has. Starts nothing."""
    from rich.console import Group

    from rayplat.cluster.session import status as look

    found = look(call.settings())
    call.show(
        found,
        lambda: Group(
            fields({"ray": found.address or "not running", "dashboard": found.dashboard}),
            table(
                ["resource", "all", "free"],
                [
                    (k, v, found.available.get(k, 0.0))
                    for k, v in sorted(found.resources.items())
                    if ":" not in k
                ],
            ),
            table(["pid", "process"], found.processes, title="processes"),
        ),
    )
