"""A job's own word: from inside, it tells the history that it runs, and how it ended.

Knows how a process learns that it is a submitted job; it does not know what the job does. So a plain
`ray job submit` is in the history too, with its folder and its log, even if nobody looks while the
cluster is there. A history that does not answer never stops a job.
"""

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rayplat.core.errors import ConflictError, RayplatError
from rayplat.core.settings import Settings
from rayplat.core.settings_environment import process_environment

if TYPE_CHECKING:
    from rayplat.cluster.jobs.record import JobRecord

_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray's jobs supervisor hands it to the driver
_OUTPUT = Path("/proc/self/fd/1")  # a job's output is its log file on this node


@dataclass(frozen=True, slots=True)
class Inside:
    """What a process knows of the job that it is."""

    submission_id: str
    metadata: Mapping[str, str]
    folder_shipped: bool


def this_job(environment: Mapping[str, str]) -> Inside | None:
    """The submitted job that a process with this environment is; None if it is none."""
    try:
        told = json.loads(environment.get(_CONFIG) or "{}")
        metadata = told.get("metadata") or {}
        shipped = str((told.get("runtime_env") or {}).get("working_dir") or "").startswith("gcs://")
    except (ValueError, AttributeError):
        return None
    submission_id = metadata.get("job_submission_id")
    return Inside(submission_id, metadata, shipped) if submission_id else None


@contextlib.contextmanager
def reported(
    settings: Settings, argv: Sequence[str], project: str = "", log: Path | None = None
) -> Iterator[None]:
    """Tell the history that this job runs, and at the end how it went; nothing outside of a job.

    Args:
        argv: the script and its arguments, for a job that the history does not know.
        project: the project's address, for such a job.
        log: the job's log file; what this process writes to if None.
    """
    inside = this_job(process_environment())
    if inside is None:
        yield
        return
    written = log or _OUTPUT
    _told(lambda: _begin(settings, inside, argv, project, written))
    try:
        yield
    except BaseException as error:
        ended_well = isinstance(error, SystemExit) and not error.code
        message = "" if ended_well else _short(error)
        _told(lambda: _end(settings, inside.submission_id, ended_well, message, written))
        raise
    _told(lambda: _end(settings, inside.submission_id, True, "", written))


def _told(tell: Callable[[], None]) -> None:
    try:
        tell()
    except (RayplatError, OSError) as error:
        sys.stderr.write(f"the history of jobs was not told: {error}\n")


def _short(error: BaseException) -> str:
    what = error.what if isinstance(error, RayplatError) else str(error)
    return f"{type(error).__name__}: {what}"[:2000]


def _begin(settings: Settings, inside: Inside, argv: Sequence[str], project: str, log: Path) -> None:
    from rayplat.cluster.jobs.command import project_name
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.record import JobState

    now = datetime.now(UTC)
    session = _session(log)
    with contextlib.closing(JobHistory(settings)) as history:
        if history.find(inside.submission_id) is None:
            with contextlib.suppress(ConflictError):  # a looker wrote it down in between
                history.add(_of_a_plain_submission(settings, inside, argv, now))
        package = history.get(inside.submission_id).package or _kept_folder(settings, inside)
        history.change(
            inside.submission_id,
            lambda known: replace(
                known,
                user=known.user or settings.user,
                team=known.team or settings.jobs.team,
                project=known.project or project_name(project),
                package=package,
                session=known.session or session,
                status=JobState.RUNNING,
                message="",
                started_at=known.started_at or now,
                ended_at=None,
                settled=False,
            ),
        )


def _of_a_plain_submission(
    settings: Settings, inside: Inside, argv: Sequence[str], now: datetime
) -> "JobRecord":
    from rayplat.cluster.head import read_head
    from rayplat.cluster.jobs.address import own_place
    from rayplat.cluster.jobs.record import JobRecord

    said = inside.metadata
    return JobRecord(
        submission_id=inside.submission_id,
        user=said.get("rayplat.user", settings.user),
        team=said.get("rayplat.team", settings.jobs.team),
        purpose=said.get("rayplat.purpose", ""),
        command=shlex.join(["python", *argv]),
        place=own_place(settings) if read_head(settings) else "",
        submitted_at=now,
    )


def _kept_folder(settings: Settings, inside: Inside) -> str:
    """The digest of this job's working folder, which is kept so that the job can be resumed."""
    if not inside.folder_shipped:
        return ""
    from rayplat.cluster.jobs.folder import pack
    from rayplat.cluster.jobs.storage import JobFiles

    jobs = settings.jobs
    package = pack(Path.cwd(), jobs.file_mib, jobs.folder_mib, [settings.home])
    JobFiles(settings).keep_package(package)
    return package.digest


def _end(settings: Settings, submission_id: str, good: bool, message: str, log: Path) -> None:
    from rayplat.cluster.jobs.history import JobHistory
    from rayplat.cluster.jobs.record import JobState
    from rayplat.cluster.jobs.storage import JobFiles

    sys.stdout.flush()
    state = JobState.SUCCEEDED if good else JobState.FAILED
    now = datetime.now(UTC)
    written = log.resolve()
    kept = ""
    if written.is_file():
        kept = JobFiles(settings).keep_log(submission_id, written.read_text(errors="replace"))
    with contextlib.closing(JobHistory(settings)) as history:
        history.change(
            submission_id,
            lambda known: replace(
                known, status=state, message=message, ended_at=now, log=kept or known.log, settled=False
            ),
        )


def _session(log: Path) -> str:
    """The cluster's session by the place of the log: …/session_…/logs/job-driver-….log."""
    name = log.resolve().parent.parent.name
    return name if name.startswith("session_") else ""
