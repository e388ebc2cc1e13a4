"""A job as the history knows it: who asked for what, where it runs, and how it ended.

Knows the fields and the states; it does not know where they are kept or who changes them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. UNKNOWN is never stored: it says that its cluster cannot be asked now."""

    SUBMITTING = "SUBMITTING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
ENDED = FINAL | {JobState.LOST}
RESUMABLE = ENDED - {JobState.SUCCEEDED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a job declares to use at most, all of its processes together. Nothing is reserved by it."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gib: float = 0.0

    def plus(self, other: "Needs") -> "Needs":
        """Both together."""
        return Needs(
            cpus=self.cpus + other.cpus,
            gpus=self.gpus + other.gpus,
            memory_gib=self.memory_gib + other.memory_gib,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job.

    Attributes:
        submission_id: the id under which it was submitted; unique.
        ray_job_id: Ray's own id of its driver, once there is one.
        package: digest of the working folder's content in the warehouse; empty: none was kept.
        runtime_digest: SHA-256 of the runtime environment that the cluster was given.
        packages: how the Python packages were given (`none`, `pip`).
        place: the cluster's address, or the home for the platform's own; empty: not known.
        session: the name of the cluster's session; a cluster that is started anew has another one.
        log: address of the copy in the warehouse; empty while there is none.
        cost: what it has cost, in the currency of the prices; None while nobody has said.
        settled: the outcome is the cluster's own word, or nothing more can be learned.
    """

    submission_id: str
    ray_job_id: str = ""
    user: str = ""
    team: str = ""
    project: str = ""
    purpose: str = ""
    command: str = ""
    needs: Needs = field(default_factory=Needs)
    package: str = ""
    packages: str = ""
    runtime_digest: str = ""
    place: str = ""
    session: str = ""
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status: JobState = JobState.SUBMITTING
    message: str = ""
    exit_code: int | None = None
    log: str = ""
    cost: Decimal | None = None
    resumed_from: str = ""
    settled: bool = False

    @property
    def ended(self) -> bool:
        """Whether the job does not run any more."""
        return self.status in ENDED
