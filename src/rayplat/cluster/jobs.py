"""Jobs on the cluster: submitted, listed, followed and stopped through Ray's jobs API.

Knows the API's address and token; it does not know what a job does.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from shlex import join
from typing import Any

from rayplat.cluster.head import read_head
from rayplat.cluster.token import client_environment, use_token
from rayplat.core.errors import NotFoundError, UnavailableError
from rayplat.core.settings import Settings

ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})


@dataclass(frozen=True, slots=True)
class Job:
    """A job: its id, what it runs, its status (PENDING, RUNNING, SUCCEEDED, FAILED, STOPPED)."""

    id: str
    entrypoint: str
    status: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether the job will not run any more."""
        return self.status in ENDED


def job_environment(settings: Settings) -> dict[str, str]:
    """The variables with which a plain `ray job submit` finds this platform and is let in.

    Raises:
        UnavailableError: no Ray of this platform runs.
    """
    return {"RAY_API_SERVER_ADDRESS": _address(settings), **client_environment(settings)}


def submit(settings: Settings, command: Sequence[str], working_dir: str) -> str:
    """Submit a command; its working folder is shipped to the cluster. Returns the job's id.

    Raises:
        UnavailableError: the cluster does not answer or refuses the token.
    """
    client = _client(settings)
    try:
        return str(client.submit_job(entrypoint=join(command), runtime_env={"working_dir": working_dir}))
    except RuntimeError as error:
        raise UnavailableError(f"the job was not taken: {error}", "run `rayplat status`") from error


def list_jobs(settings: Settings) -> list[Job]:
    """Every submitted job that the cluster remembers, newest first."""
    jobs = [j for j in _client(settings).list_jobs() if j.submission_id]
    jobs.sort(key=lambda j: j.start_time or 0, reverse=True)
    return [_job(j) for j in jobs]


def get_job(settings: Settings, job_id: str) -> Job:
    """One job.

    Raises:
        NotFoundError: the cluster knows no job of that id.
    """
    try:
        return _job(_client(settings).get_job_info(job_id))
    except RuntimeError as error:
        raise NotFoundError(f"there is no job {job_id!r}", "`rayplat jobs list` shows them") from error


def follow(settings: Settings, job_id: str) -> Iterator[str]:
    """The job's log as it is written, until the job has ended."""
    client = _client(settings)
    get_job(settings, job_id)
    lines = client.tail_job_logs(job_id)
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield str(loop.run_until_complete(anext(lines)))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(lines.aclose())
        loop.close()


def stop(settings: Settings, job_id: str) -> bool:
    """Ask a job to stop. Returns whether it was running."""
    get_job(settings, job_id)
    return bool(_client(settings).stop_job(job_id))


def _job(info: Any) -> Job:
    return Job(info.submission_id, info.entrypoint, str(info.status), info.message or "")


def _address(settings: Settings) -> str:
    head = read_head(settings)
    if head is None:
        raise UnavailableError(f"no Ray runs for the platform in {settings.home}", "run `rayplat up`")
    return head.dashboard


def _client(settings: Settings) -> Any:
    address = _address(settings)
    use_token(settings)
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UnavailableError(
            f"the jobs API at {address} does not let us in: {error}", "run `rayplat doctor`"
        ) from error
