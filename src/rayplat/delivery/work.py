"""What the steps of the loop work with.

Knows the parts, the declarations and the progress; it does not know any step.
"""

from dataclasses import dataclass

from rayplat.core.errors import UserError
from rayplat.core.progress import Progress
from rayplat.core.project.model import Endpoint, Model, Monitor, Replay
from rayplat.core.project.project import Project
from rayplat.data.streaming.development.tell import Teller
from rayplat.delivery.parts import Parts


@dataclass(slots=True)
class Work:
    """One run of the loop over one project."""

    parts: Parts
    project: Project
    model: Model
    endpoint: Endpoint
    monitor: Monitor
    progress: Progress
    replay: Replay | None = None
    teller: Teller | None = None


def plan_work(parts: Parts, project: Project, progress: Progress) -> Work:
    """Choose the endpoint, its model and its monitor.

    Raises:
        UserError: the project lacks one of them.
    """
    for kind, declared in (
        ("model", project.models),
        ("endpoint", project.endpoints),
        ("monitor", project.monitors),
    ):
        if not declared:
            raise UserError(
                f"project {project.name!r} declares no {kind}, and the loop needs one",
                f"declare it with project.{kind}(...), or use the commands of single steps",
            )
    endpoint = project.endpoints[0]
    model = next(m for m in project.models if m.name == endpoint.model)
    monitor = next((m for m in project.monitors if m.endpoint == endpoint.name), project.monitors[0])
    replay = project.replays[0] if project.replays else None
    return Work(parts, project, model, endpoint, monitor, progress, replay)
