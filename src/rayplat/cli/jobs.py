"""`rayplat jobs`: work that runs on the cluster, not in this terminal, and what became of it.

Knows how jobs are shown; the jobs API and the history are known in `cluster.jobs`.
"""

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, table
from rayplat.cli.submit import PASS_ON, Detach, door, follow, shown, submit, tell

if TYPE_CHECKING:
    from rayplat.cluster.jobs.record import JobRecord
    from rayplat.core.settings import Settings

app = group("Submit, list, follow, stop and resume jobs on the cluster.")
command(app, "submit", **PASS_ON)(submit)

JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="As `rayplat jobs list` shows it.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
Team = Annotated[str, typer.Option("--team", help="Only this team's.")]
Project = Annotated[str, typer.Option("--project", help="Only this project's, by its name.")]


@command(app, "list")
def list_(call: Call, limit: Limit = 50, team: Team = "", project: Project = "") -> None:
    """The jobs that there were, newest first; those of clusters that are gone, too."""
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.settling import settle
    from rayplat.cluster.jobs.settling import shown as as_seen

    settings = call.settings()
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        found = [as_seen(job, view) for job in history.newest(limit, team=team, project=project)]
    found = _with_costs(settings, found)
    call.show(
        [shown(job) for job in found],
        lambda: table(
            ["job", "status", "submitted", "took", "cost", "user", "team", "project", "command"],
            [
                (
                    j.submission_id,
                    j.status.lower(),
                    j.submitted_at,
                    _took(j),
                    "" if j.cost is None else f"${j.cost:.4f}",
                    j.user,
                    j.team,
                    j.project,
                    j.command,
                )
                for j in found
            ],
        ),
    )


@command(app)
def show(call: Call, job: JobId) -> None:
    """Everything that is known of a job."""
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.settling import settle
    from rayplat.cluster.jobs.settling import shown as as_seen

    settings = call.settings()
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        seen = as_seen(history.get(job), view)
    found = shown(_with_costs(settings, [seen])[0])
    call.show(found, lambda: fields({k: v for k, v in found.items() if k != "submission_id"}))


@command(app)
def logs(call: Call, job: JobId) -> None:
    """Follow a job's log to its end; exits with 1 if the job did not succeed."""
    follow(call, call.settings(), job)


@command(app)
def stop(call: Call, job: JobId) -> None:
    """Ask a job to stop, and wait a few seconds for it."""
    from rayplat.cluster.jobs.submission import stop as ask

    stopped, now = ask(call.settings(), job)
    call.show(
        {**shown(now), "stopped": stopped},
        lambda: f"job {job} {now.status.lower()}" + ("" if stopped else ": it had ended already"),
    )


@command(app)
def resume(call: Call, job: JobId, detach: Detach = False) -> None:
    """Submit a job that failed, was stopped or was lost again; it goes on from what was durable."""
    from rayplat.cluster.jobs.quota import teams_of
    from rayplat.cluster.jobs.submission import resume as again

    settings = call.settings()
    sent = again(settings, job, door(settings, teams_of(settings)))
    tell(call, settings, sent, detach=detach)


@command(app)
def env(call: Call) -> None:
    """The variables with which a plain `ray job submit` is let in: eval "$(rayplat jobs env)"."""
    from rayplat.cluster.jobs.submission import job_environment

    found = job_environment(call.settings())
    call.show(found, lambda: "\n".join(f"export {name}={value}" for name, value in found.items()))


def _with_costs(settings: "Settings", jobs: "list[JobRecord]") -> "list[JobRecord]":
    """The jobs with what they have cost up to now; as the history has it where a price is not known."""
    from datetime import UTC, datetime

    from rayplat.core.errors import RayplatError
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.money import dollars

    if not jobs:
        return jobs
    now = datetime.now(UTC)
    try:
        with Accounts(settings) as accounts:
            since = min(job.submitted_at for job in jobs)
            known = accounts.job_costs(accounts.charges(since, now))
    except RayplatError:
        return jobs
    return [
        replace(job, cost=dollars(known[job.submission_id])) if job.submission_id in known else job
        for job in jobs
    ]


def _took(job: "JobRecord") -> str:
    if job.started_at is None or job.ended_at is None:
        return ""
    return f"{(job.ended_at - job.started_at).total_seconds():.0f} s"
