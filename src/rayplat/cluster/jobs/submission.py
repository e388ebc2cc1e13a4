"""Submitting, resuming and stopping jobs.

Knows the order in which nothing is ever half-submitted: knock, read the folder, ask the door, write the
intent down, hand over; it does not know what a command does, nor how quotas and budgets decide.
"""

import secrets
import shlex
import string
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rayplat.cluster.head import read_head
from rayplat.cluster.jobs.address import Door, find_door
from rayplat.cluster.jobs.client import JobsClient
from rayplat.cluster.jobs.environment import chosen_packages, digest_of, runtime_environment
from rayplat.cluster.jobs.folder import Package, PackedFile, pack, packed
from rayplat.cluster.jobs.preflight import Open, preflight
from rayplat.cluster.jobs.record import RESUMABLE, JobRecord, JobState
from rayplat.cluster.jobs.request import Admit, JobRequest, Refused, RefusedError, Warned, admit_all
from rayplat.core.errors import ConflictError, RayplatError, UnavailableError, UserError
from rayplat.core.settings import Settings

_ID_LETTERS = string.ascii_letters + string.digits
_STOP_S = 10.0

Check = Callable[[JobRequest, Package], None]
"""Looks at what is going to be sent, before anything is; raises a UserError for what cannot run."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that the cluster has taken, and what its submitter should know."""

    job: JobRecord
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _At:
    """A cluster that has let us in."""

    door: Door
    entered: Open


def job_environment(settings: Settings) -> dict[str, str]:
    """The variables with which a plain `ray job submit` finds this platform and is let in.

    Raises:
        UnavailableError: no Ray of this platform runs.
    """
    from rayplat.cluster.token import client_environment

    head = read_head(settings)
    if head is None:
        raise UnavailableError(f"no Ray runs for the platform in {settings.home}", "run `rayplat up`")
    return {"RAY_API_SERVER_ADDRESS": head.dashboard, **client_environment(settings)}


def submit(
    settings: Settings, request: JobRequest, admit: Admit = admit_all, check: Check | None = None
) -> Submitted:
    """Submit a command with its working folder; returns when the cluster has taken it.

    Args:
        admit: quotas and budgets; asked before anything is sent or written.

    Raises:
        UnavailableError: no cluster lets us in, or it did not take the job; told within two seconds
            where nobody answers.
        UserError: the folder or the command is at fault.
        RefusedError: `admit` does not let it in.
    """
    door = find_door(settings)
    entered = preflight(door)
    jobs = settings.jobs
    package = pack(request.folder, jobs.file_mib, jobs.folder_mib, [settings.home])
    if check is not None:
        check(request, package)
    return _send(settings, _At(door, entered), request, package, admit)


def resume(settings: Settings, submission_id: str, admit: Admit = admit_all) -> Submitted:
    """Submit a job that failed, was stopped or was lost again: same command, folder content and packages.

    The new job is linked to the former; what was done before is in the warehouse and the database, and
    our jobs go on from there.

    Raises:
        NotFoundError: there is no such job, or its folder is not kept any more.
        UserError: it succeeded, or its folder was never kept.
        ConflictError: it still runs, or has been resumed already.
    """
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.settling import settle, shown
    from rayplat.cluster.jobs.storage import JobFiles

    door = find_door(settings)
    entered = preflight(door)
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        former = shown(history.get(submission_id), view)
    _check_resumable(former)
    package = JobFiles(settings).read_package(former.package)
    request = JobRequest(
        command=tuple(shlex.split(former.command)),
        folder=Path(),
        user=former.user or settings.user,
        team=former.team,
        project=former.project,
        purpose=former.purpose,
        needs=former.needs,
        resumed_from=submission_id,
    )
    return _send(settings, _At(door, entered), request, package, admit, packages=former.packages)


def _check_resumable(former: JobRecord) -> None:
    if former.status not in RESUMABLE:
        ran = former.status == JobState.SUCCEEDED
        kind = UserError if ran else ConflictError
        raise kind(
            f"job {former.submission_id} is {former.status}",
            "submit it anew: it has nothing left to do" if ran else "wait for it, or stop it first",
        )
    if not former.package:
        raise UserError(
            f"the working folder of job {former.submission_id} was not kept: it was submitted by other means",
            "submit it anew with `rayplat submit`",
        )


def _send(
    settings: Settings, at: _At, request: JobRequest, package: Package, admit: Admit, *, packages: str = ""
) -> Submitted:
    """Hand a request to the cluster; `packages` as a former job had them, else as chosen now."""
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.storage import JobFiles

    packages = packages or chosen_packages(settings, at.door)
    own_code = _own_code() if packages != "none" else None
    environment = runtime_environment(request, package, packages, own_code)
    decision = admit(request)
    if isinstance(decision, Refused):
        raise RefusedError(decision.why, decision.mend)
    record = JobRecord(
        submission_id=_new_id(),
        user=request.user,
        team=request.team,
        project=request.project,
        purpose=request.purpose,
        command=shlex.join(request.command),
        needs=request.needs,
        package=package.digest,
        packages=packages,
        runtime_digest=digest_of(environment),
        place=at.door.place,
        session=at.entered.session,
        submitted_at=datetime.now(UTC),
        resumed_from=request.resumed_from,
    )
    JobFiles(settings).keep_package(package)
    with closing(JobHistory(settings)) as history, JobsClient(at.door) as client:
        for one in [package, *([own_code] if own_code else [])]:
            if not client.has_package(one.name):
                client.put_package(one.name, one.to_bytes())
        history.add(record)
        _hand_over(client, history, record, environment)
        taken = history.change(record.submission_id, _pending)
    return Submitted(taken, _notes(decision, package, settings))


def _pending(record: JobRecord) -> JobRecord:
    # The job itself may have told in between that it runs.
    return replace(record, status=JobState.PENDING) if record.status == JobState.SUBMITTING else record


def _hand_over(client: JobsClient, history: Any, record: JobRecord, environment: dict[str, Any]) -> None:
    """Give a job to the cluster; where the answer is lost, ask whether it arrived."""
    try:
        client.submit(record.submission_id, record.command, environment, metadata(record))
    except RayplatError:
        try:
            arrived = client.job(record.submission_id) is not None
        except UnavailableError:
            # Nobody can say now: the intent stays, and the next look tells whether the job is there.
            raise
        if not arrived:
            history.remove(record.submission_id)
            raise


def metadata(record: JobRecord) -> dict[str, str]:
    """What Ray keeps with the job, so that the cluster alone can tell whose it is."""
    said = {
        "rayplat.user": record.user,
        "rayplat.team": record.team,
        "rayplat.project": record.project,
        "rayplat.purpose": record.purpose,
        "rayplat.resumed_from": record.resumed_from,
    }
    return {name: value for name, value in said.items() if value}


def _notes(decision: object, package: Package, settings: Settings) -> tuple[str, ...]:
    notes = [f"warning: {decision.why}"] if isinstance(decision, Warned) else []
    for name, size in package.left_out:
        notes.append(
            f"left out: {name} has {size / 2**20:.1f} MiB; files over {settings.jobs.file_mib} MiB are sent "
            "with --set jobs.file_mib=…"
        )
    return tuple(notes)


def _own_code() -> Package:
    """rayplat itself, for a cluster that does not have it."""
    spec = find_spec("rayplat")
    if spec is None or spec.origin is None:
        raise UserError("rayplat is not installed as files", "install it with pip")
    plain = pack(Path(spec.origin).parent, 10, 100)
    return packed([PackedFile(f"rayplat/{f.path}", f.executable, f.content) for f in plain.files])


def _new_id() -> str:
    # The form of Ray's own ids, so that every tool takes it.
    return "raysubmit_" + "".join(secrets.choice(_ID_LETTERS) for _ in range(16))


def stop(settings: Settings, submission_id: str, wait_s: float = _STOP_S) -> tuple[bool, JobRecord]:
    """Ask a job to stop, and wait until it has, for ten seconds at most.

    Returns:
        Whether it was running, and what is known of it now.

    Raises:
        NotFoundError: there is no such job.
    """
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.settling import settle, shown

    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        record = shown(history.get(submission_id), view)
        if record.ended:
            return False, record
        if record.status == JobState.UNKNOWN:
            raise UnavailableError(f"job {submission_id}: {record.message}", "run `rayplat jobs list` later")
        with JobsClient(find_door(settings)) as client:
            client.stop(submission_id)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline:
                seen = client.job(submission_id)
                if seen is None or seen.status not in ("PENDING", "RUNNING"):
                    break
                time.sleep(0.2)
        view = settle(settings, history)
        return True, shown(history.get(submission_id), view)
