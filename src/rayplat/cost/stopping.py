"""Stopping work from outside, once it was asked and its time is over.

Knows which part of the platform ends which kind of work; it does not know when that is due.
"""

from collections.abc import Callable

from rayplat.cluster.jobs.record import JobRecord
from rayplat.core.settings import Settings
from rayplat.cost.budget import Work

Stopper = Callable[[Work, JobRecord | None], None]
"""Ends some work: the work, and the job that it is a part of, if one is known."""


def cluster_stopper(settings: Settings) -> Stopper:
    """Ends work on the platform's cluster: a job by Ray's SIGTERM and then SIGKILL, an endpoint by its end.

    Runs and ingests are parts of jobs, and end with them. What belongs to no job cannot be ended from
    outside: its own process is asked, and no more.
    """

    def stop(work: Work, job: JobRecord | None) -> None:
        if work.kind == "endpoint":
            from rayplat.cluster.session import connect
            from rayplat.serve.app import undeploy

            connect(settings)
            undeploy(settings, work.owner)
        elif job is not None and not job.ended:
            from rayplat.cluster.jobs.submission import stop as stop_job

            stop_job(settings, job.submission_id)

    return stop
