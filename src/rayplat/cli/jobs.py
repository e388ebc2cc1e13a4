"""`rayplat jobs`: work that runs on the cluster, not in this terminal.

Knows how jobs are shown; the jobs API is known in `cluster.jobs`.
"""

import sys
from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import Format, table
from rayplat.core.errors import RayplatError

app = group("Submit, list, follow and stop jobs on the cluster.")

JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="As `rayplat jobs list` shows it.", show_default=False)
]
Command = Annotated[
    list[str],
    typer.Argument(metavar="COMMAND...", help="After --, such as: -- python jobs/train.py --project …"),
]
WorkingDir = Annotated[str, typer.Option("--working-dir", help="The folder that is shipped to the cluster.")]
Detach = Annotated[bool, typer.Option("--detach", help="Do not follow the log.")]


@command(app)
def submit(call: Call, command_: Command, working_dir: WorkingDir = ".", detach: Detach = False) -> None:
    """Submit a command, and follow its log to the end."""
    from rayplat.cluster.jobs import submit as send

    settings = call.settings()
    job_id = send(settings, command_, working_dir)
    call.note(f"job {job_id}")
    if detach:
        call.show({"id": job_id}, lambda: job_id)
    else:
        _follow(call, job_id)


@command(app, "list")
def list_(call: Call) -> None:
    """Every job that the cluster remembers, newest first."""
    from rayplat.cluster.jobs import list_jobs

    found = list_jobs(call.settings())
    call.show(
        found, lambda: table(["job", "status", "command"], [(j.id, j.status, j.entrypoint) for j in found])
    )


@command(app)
def logs(call: Call, job: JobId) -> None:
    """Follow a job's log to its end; exits with 1 if the job did not succeed."""
    _follow(call, job)


@command(app)
def stop(call: Call, job: JobId) -> None:
    """Ask a job to stop."""
    from rayplat.cluster.jobs import stop as ask

    stopped = ask(call.settings(), job)
    call.show({"id": job, "stopped": stopped}, lambda: "stopping" if stopped else "it had ended already")


@command(app)
def env(call: Call) -> None:
    """The variables with which a plain `ray job submit` is let in: eval "$(rayplat jobs env)"."""
    from rayplat.cluster.jobs import job_environment

    found = job_environment(call.settings())
    call.show(found, lambda: "\n".join(f"export {name}={value}" for name, value in found.items()))


def _follow(call: Call, job_id: str) -> None:
    from rayplat.cluster.jobs import follow, get_job

    settings = call.settings()
    lines = follow(settings, job_id)
    log = []
    for part in lines:
        if call.form is Format.TEXT:
            sys.stdout.write(part)
            sys.stdout.flush()
        else:
            log.append(part)
    job = get_job(settings, job_id)
    call.show({**_plain(job), "log": "".join(log)}, lambda: f"job {job.id} {job.status.lower()}")
    if job.status != "SUCCEEDED":
        raise RayplatError(
            f"job {job.id} ended as {job.status}: {job.message}", f"rayplat jobs logs {job.id}"
        )


def _plain(job: object) -> dict[str, object]:
    import dataclasses

    from rayplat.cluster.jobs import Job

    return dataclasses.asdict(job) if isinstance(job, Job) else {}
