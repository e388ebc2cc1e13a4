"""A job's log: followed while the job runs, from its copy in the warehouse afterwards.

Knows where a log is to be had; it does not know how it is shown.
"""

from collections.abc import Generator
from contextlib import closing

from rayplat.cluster.jobs.address import find_door
from rayplat.cluster.jobs.client import follow_log
from rayplat.cluster.jobs.history import JobHistory
from rayplat.cluster.jobs.record import JobRecord, JobState
from rayplat.cluster.jobs.settling import settle, shown
from rayplat.cluster.jobs.storage import JobFiles
from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings


def log_of(settings: Settings, submission_id: str) -> Generator[str, None, JobRecord]:
    """The parts of a job's log to the job's end; the generator's value is the job as it ended.

    A cluster that dies meanwhile ends the log; the job is then told as what it is.

    Raises:
        NotFoundError: there is no such job.
        UnavailableError: the job is open and its cluster cannot be asked.
    """
    with closing(JobHistory(settings)) as history:
        view = settle(settings, history)
        record = shown(history.get(submission_id), view)
        if record.status == JobState.UNKNOWN:
            raise UnavailableError(f"job {submission_id}: {record.message}", "try again later")
        if record.ended:
            if record.log:
                yield JobFiles(settings).read_log(record.log)
            return record
        try:
            yield from follow_log(find_door(settings), submission_id)
        except UnavailableError:
            view = settle(settings, history)
            record = shown(history.get(submission_id), view)
            if not record.ended:
                raise
            return record
        view = settle(settings, history)
        return shown(history.get(submission_id), view)
