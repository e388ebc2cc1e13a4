"""`rayplat submit`: a job of the project on the cluster, from this terminal.

Knows the words and options, and how a job is followed; submitting is known in `cluster.jobs`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rayplat.cli.command import Call, command, single
from rayplat.cli.output import Format
from rayplat.core.errors import RayplatError, UserError

if TYPE_CHECKING:
    from typer._click.core import Context as CommandContext

    from rayplat.cluster.jobs.quota import Teams
    from rayplat.cluster.jobs.record import JobRecord
    from rayplat.cluster.jobs.request import Admit
    from rayplat.cluster.jobs.submission import Submitted
    from rayplat.core.settings import Settings

app = single()

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="JOB...",
        help="A file of jobs/ by its name (train), a script, or after -- a whole command; and its arguments.",
        show_default=False,
    ),
]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="PROJECT",
        help="Handed to the job: a folder, a .py file, or package.module.",
        show_default=False,
    ),
]
WorkingDir = Annotated[Path, typer.Option("--working-dir", help="The folder that the job gets.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait in line while the team's quota has no room, instead of an error.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return when the cluster has taken it.")]
Team = Annotated[str | None, typer.Option("--team", help="Counted for this team; else jobs.team.")]
Purpose = Annotated[str, typer.Option("--purpose", help="What it is for, in a few words.")]
Cpus = Annotated[float, typer.Option("--cpus", min=0, help="Most CPUs that it uses, for the quota.")]
Gpus = Annotated[float, typer.Option("--gpus", min=0, help="Most GPUs that it uses, for the quota.")]
Memory = Annotated[
    float, typer.Option("--memory", min=0, help="Most memory that it uses, GiB, for the quota.")
]


class WordsCommand(TyperCommand):
    """Leaves options that it does not know to the job, and keeps a `--` before the first word as a word."""

    def parse_args(self, ctx: "CommandContext", args: list[str]) -> list[str]:
        """See click, which drops the first `--`: where it stands before all words, it is said twice."""
        if "--" in args:
            at = args.index("--")
            if not self._words(args[:at]):
                args = [*args[:at], "--", *args[at:]]
        return super().parse_args(ctx, args)

    def _words(self, args: list[str]) -> list[str]:
        valued = {
            name for param in self.params if not getattr(param, "is_flag", False) for name in param.opts
        }
        words, value = [], False
        for arg in args:
            if not value and not arg.startswith("-"):
                words.append(arg)
            value = not value and arg in valued
        return words


PASS_ON: dict[str, Any] = {"cls": WordsCommand, "context_settings": {"ignore_unknown_options": True}}


@command(app, **PASS_ON)
def submit(  # noqa: PLR0917  # Typer gives them by name
    call: Call,
    words: Words = None,
    project: ProjectOption = None,
    working_dir: WorkingDir = Path(),
    detach: Detach = False,
    wait: Wait = False,
    team: Team = None,
    purpose: Purpose = "",
    cpus: Cpus = 0.0,
    gpus: Gpus = 0.0,
    memory: Memory = 0.0,
) -> None:
    """Run a job on the cluster, and follow its log to the end; exits with 1 if it does not succeed."""
    from rayplat.cluster.jobs.command import check, named_project, project_name, resolve
    from rayplat.cluster.jobs.line import in_line
    from rayplat.cluster.jobs.quota import teams_of
    from rayplat.cluster.jobs.record import Needs
    from rayplat.cluster.jobs.request import JobRequest, OverQuota, RefusedError
    from rayplat.cluster.jobs.submission import submit as send

    settings = call.settings()
    if not working_dir.is_dir():
        raise UserError(f"there is no folder {working_dir}", "give --working-dir a folder that exists")
    chosen = resolve(words or [], working_dir, project)
    teams = teams_of(settings)
    request = JobRequest(
        command=chosen,
        folder=working_dir,
        user=settings.user,
        team=team or settings.jobs.team or teams.of(settings.user),
        project=project_name(project or named_project(chosen)),
        purpose=purpose,
        needs=Needs(cpus=cpus, gpus=gpus, memory_gib=memory),
    )
    admit = door(settings, teams)
    while True:
        if wait:
            in_line(settings, request, admit, call.note)
        try:
            sent = send(settings, request, admit, check)
            break
        except RefusedError:
            if not (
                wait and isinstance(admit(request), OverQuota)
            ):  # else another job of the team was quicker
                raise
    tell(call, settings, sent, detach=detach)


def door(settings: "Settings", teams: "Teams") -> "Admit":
    """What decides whether a job may come in: the team's quota, then the budgets."""
    from rayplat.cluster.jobs.quota import team_quota
    from rayplat.cluster.jobs.request import admit_in_turn
    from rayplat.cost.door import budget_door

    return admit_in_turn(team_quota(settings, teams), budget_door(settings))


def tell(call: Call, settings: "Settings", sent: "Submitted", *, detach: bool) -> None:
    """Show a job that was taken, or follow it to its end."""
    for note in sent.notes:
        call.note(note)
    if detach:
        call.show({**shown(sent.job), "notes": sent.notes}, lambda: sent.job.submission_id)
    else:
        call.note(f"job {sent.job.submission_id} (`rayplat jobs stop {sent.job.submission_id}` stops it)")
        follow(call, settings, sent.job.submission_id)


def follow(call: Call, settings: "Settings", job_id: str) -> None:
    """Show a job's log to its end, and exit with 1 if it did not succeed."""
    from rayplat.cluster.jobs.following import log_of
    from rayplat.cluster.jobs.record import JobState

    kept: list[str] = []
    parts = log_of(settings, job_id)
    while True:
        try:
            part = next(parts)
        except StopIteration as end:
            job: JobRecord = end.value
            break
        except KeyboardInterrupt:
            call.note(f"job {job_id} goes on: `rayplat jobs logs {job_id}` follows it again")
            raise
        if call.form is Format.TEXT:
            sys.stdout.write(part)
            sys.stdout.flush()
        else:
            kept.append(part)
    call.show({**shown(job), "log": "".join(kept)}, lambda: f"job {job.submission_id} {job.status.lower()}")
    if job.status != JobState.SUCCEEDED:
        raise RayplatError(
            f"job {job.submission_id} is {job.status}: {job.message or 'no message'}",
            f"read its log; `rayplat jobs resume {job.submission_id}` submits it again",
        )


def shown(job: "JobRecord") -> dict[str, Any]:
    """A job as JSON tells it."""
    from rayplat.cli.output import vars_of

    fields = {"id": job.submission_id, **vars_of(job), "needs": vars_of(job.needs)}
    return {**fields, "status": str(job.status), "cost": None if job.cost is None else str(job.cost)}
