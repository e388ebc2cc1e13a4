"""`rayplat monitor`: how a project's endpoints do.

Knows how the report of a monitor is shown; it does not know how it is computed.
"""

from typing import TYPE_CHECKING

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import fields, table
from rayplat.cli.parameters import ProjectAddress
from rayplat.core.errors import NotFoundError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.monitoring.watch import WatchReport

app = single()


@command(app)
def monitor(call: Call, project: ProjectAddress) -> None:
    """Join labels to predictions: performance by day, drift against the training set, decay."""
    from rayplat.monitoring.watch import watch
    from rayplat.serve.prediction_log import PredictionLog

    loaded = call.project(project)
    if not loaded.monitors:
        raise NotFoundError(
            f"the project {loaded.name!r} declares no monitor", "declare one: project.monitor(…)"
        )
    platform = call.platform()
    PredictionLog(platform.settings).drain(platform.lake, platform.settings, platform.bus)
    found = {one.name: watch(platform.lake, platform.registry, loaded, one) for one in loaded.monitors}

    def text() -> "RenderableType":
        from rich.console import Group

        return Group(*(watched_text(report) for report in found.values()))

    call.show(found, text)


def watched_text(report: "WatchReport") -> "RenderableType":
    """A report for people: the verdict, performance by day, and the features that drifted, worst first."""
    from rich.console import Group

    metrics = list(report.days[0].metrics) if report.days else []
    days = [
        [day.day.isoformat(), day.count, day.labelled, day.base_rate, *(day.metrics.get(m) for m in metrics)]
        for day in report.days
    ]
    drifted = [[name, report.overall[name].psi, report.overall[name].missing] for name in report.drifted]
    return Group(
        fields(
            {
                "monitor": report.monitor,
                "model": f"{'decayed' if report.decayed else 'holds'}: {report.decay.reason}",
                "without a label": report.unlabelled,
            }
        ),
        table(["day", "asked", "labelled", "base rate", *metrics], days, title="performance by day"),
        table(["feature", "PSI against the training rows", "missing"], drifted, title="drifted features"),
    )
