"""Bringing the history up to date: what the cluster says about each job, or that it is gone.

Knows what becomes of a record, and carries that out; it does not know who looks. A job whose cluster is
gone is LOST, and one whose cluster cannot be asked is UNKNOWN: neither is ever told as running. A record
that was lost and whose cluster comes back (its control store was started again) is what the cluster says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rayplat.cluster.head import ray_folder, read_head
from rayplat.cluster.jobs.address import Door, find_door, own_place
from rayplat.cluster.jobs.client import JobsClient, Seen, open_http
from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.preflight import preflight
from rayplat.cluster.jobs.record import FINAL, JobRecord, JobState
from rayplat.cluster.jobs.storage import JobFiles
from rayplat.core.errors import ConflictError, RayplatError, UnavailableError
from rayplat.core.settings import Settings
from rayplat.core.telemetry import get_logger

_ON_ITS_WAY = timedelta(seconds=60)
_LOOK_S = 5.0  # a dashboard that has lost its control store hangs for long


@dataclass(frozen=True, slots=True)
class Answers:
    """The cluster at a place tells its jobs, by submission id."""

    place: str
    session: str
    jobs: Mapping[str, Seen]


@dataclass(frozen=True, slots=True)
class Gone:
    """The cluster at a place does not run any more."""

    place: str


@dataclass(frozen=True, slots=True)
class Silent:
    """Nobody can say now; `why` is the preflight's finding."""

    why: str


View = Answers | Gone | Silent


def settled(record: JobRecord, view: View, now: datetime) -> JobRecord:
    """What becomes of a record by what is seen; what may be written back."""
    if record.settled or isinstance(view, Silent):
        return record
    if isinstance(view, Gone):
        return _without_cluster(record, "its cluster is gone", now) if record.place == view.place else record
    if record.submission_id in view.jobs and record.session in ("", view.session):
        return _as_seen(record, view)
    if view.session == record.session or view.place == record.place:
        if record.status == JobState.SUBMITTING and now - record.submitted_at < _ON_ITS_WAY:
            return record
        return replace(
            _without_cluster(record, "its cluster was started anew, or never took it", now), settled=True
        )
    return record


def shown(record: JobRecord, view: View) -> JobRecord:
    """A record as a reader sees it: one that is open and cannot be asked about is UNKNOWN."""
    if record.ended:
        return record
    if isinstance(view, Silent):
        return replace(record, status=JobState.UNKNOWN, message=f"its cluster cannot be asked: {view.why}")
    here = record.place == view.place or (isinstance(view, Answers) and record.session == view.session)
    if here:
        return record
    where = record.place or "another cluster"
    return replace(record, status=JobState.UNKNOWN, message=f"it was submitted to {where}, look from there")


def _without_cluster(record: JobRecord, why: str, now: datetime) -> JobRecord:
    if record.status in FINAL:  # the job itself had told how it ended
        return replace(record, settled=True)
    if record.status == JobState.LOST:
        return record
    return replace(
        record, status=JobState.LOST, message=f"{why}; it was {record.status} before", ended_at=now
    )


def _as_seen(record: JobRecord, view: Answers) -> JobRecord:
    seen = view.jobs[record.submission_id]
    state = JobState(seen.status)
    return replace(
        record,
        ray_job_id=seen.job_id or record.ray_job_id,
        session=view.session,
        place=record.place or view.place,
        command=record.command or seen.entrypoint,
        status=state,
        message=seen.message,
        started_at=_time(seen.started) if state != JobState.PENDING else None,
        ended_at=_time(seen.ended) if state in FINAL else None,
        exit_code=seen.exit_code,
        settled=state in FINAL,
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def settle(settings: Settings, history: JobHistory | None = None) -> View:
    """Bring the history up to date: outcomes, logs copied to the warehouse, jobs that others submitted.

    Cheap, and safe to call from many processes. Call it after a cluster is gone and before Ray's
    folder is removed: the logs of what was lost are taken from there.

    Returns:
        What was seen, for `shown`.

    Raises:
        UnavailableError: the database or the warehouse does not answer.
    """
    own = history or JobHistory(settings)
    try:
        open_records = own.unsettled()
        try:
            door = find_door(settings)
        except UnavailableError:
            view: View = Gone(own_place(settings))
            _settle_all(settings, own, open_records, view, None)
            return view
        return _ask(settings, own, door, open_records)
    finally:
        if history is None:
            own.close()


def last_look(settings: Settings) -> None:
    """Bring the history up to date for whoever is about to end or forget a cluster; never stops them.

    Nothing is opened where no job was ever written down.
    """
    url = settings.database
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return
    try:
        settle(settings)
    except (RayplatError, OSError) as error:
        get_logger("cluster.jobs").warning("the history of jobs was not brought up to date", error=str(error))


def _ask(settings: Settings, history: JobHistory, door: Door, records: list[JobRecord]) -> View:
    try:
        entered = preflight(door)
        with JobsClient(door, open_http(door, _LOOK_S)) as client:
            view = Answers(door.place, entered.session, {job.submission_id: job for job in client.jobs()})
            records = [*records, *_adopt(history, view)]
            _settle_all(settings, history, records, view, client)
            return view
    except UnavailableError as error:
        if door.own and read_head(settings) is None:
            gone = Gone(door.place)
            _settle_all(settings, history, records, gone, None)
            return gone
        return Silent(error.what)


def _settle_all(
    settings: Settings,
    history: JobHistory,
    records: list[JobRecord],
    view: View,
    client: JobsClient | None,
) -> None:
    now = datetime.now(UTC)
    for record in records:
        after = settled(record, view, now)
        if after == record:
            continue
        log = _copied_log(settings, after, client) if after.ended else ""
        _write(history, record, view, now, log)


def _write(history: JobHistory, read: JobRecord, view: View, now: datetime, log: str) -> None:
    history.change(read.submission_id, lambda stored: _change(stored, read, view, now, log))


def _change(stored: JobRecord, read: JobRecord, view: View, now: datetime, log: str) -> JobRecord:
    listed = isinstance(view, Answers) and stored.submission_id in view.jobs
    if stored != read and not listed:
        return stored  # it moved on after the cluster was asked: the next look tells
    after = settled(stored, view, now)
    return replace(after, log=log) if log and after.ended else after


def _copied_log(settings: Settings, record: JobRecord, client: JobsClient | None) -> str:
    """The address of the log's copy; empty if there is nothing (more) to be had."""
    try:
        text = client.logs(record.submission_id) if client is not None else ""
    except RayplatError:
        text = ""
    if not text and (client is None or record.place == own_place(settings)):
        text = _log_on_disk(settings, record.submission_id)
    return JobFiles(settings).keep_log(record.submission_id, text) if text else ""


def _log_on_disk(settings: Settings, submission_id: str) -> str:
    found = sorted(ray_folder(settings).glob(f"session_*/logs/job-driver-{submission_id}.log"))
    return found[-1].read_text(errors="replace") if found else ""


def _adopt(history: JobHistory, view: Answers) -> list[JobRecord]:
    """Write down the jobs that were submitted by other means, such as a plain `ray job submit`."""
    strangers = set(view.jobs) - history.known(view.jobs)
    new = []
    for submission_id in sorted(strangers):
        seen = view.jobs[submission_id]
        record = adopted(seen, view, datetime.now(UTC))
        try:
            history.add(record)
        except ConflictError:
            continue  # the job itself, or another looker, was quicker
        new.append(record)
    return new


def adopted(seen: Seen, view: Answers, now: datetime) -> JobRecord:
    """The record of a job that the history did not know."""
    said = seen.metadata
    return JobRecord(
        submission_id=seen.submission_id,
        user=said.get("rayplat.user", ""),
        team=said.get("rayplat.team", ""),
        project=said.get("rayplat.project", ""),
        purpose=said.get("rayplat.purpose", ""),
        command=seen.entrypoint,
        place=view.place,
        session=view.session,
        submitted_at=_time(seen.started) or now,
        status=JobState.PENDING,
    )
