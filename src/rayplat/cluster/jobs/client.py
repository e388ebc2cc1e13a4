"""Ray's jobs API over plain HTTP: submit, list, stop, logs.

Knows the requests and their answers (documented by Ray as its Jobs REST API); it does not know the
history. Ray itself is not imported: that alone takes longer than a whole submission.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from rayplat.cluster.jobs.address import Door
from rayplat.core.errors import NotFoundError, UnavailableError

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S = 30.0
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_ABNORMAL = 1006  # RFC 6455, section 7.4.1: the connection went without a closing handshake


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as the cluster tells it. Times are seconds since 1970."""

    submission_id: str
    job_id: str
    entrypoint: str
    status: str
    message: str
    started: float | None
    ended: float | None
    exit_code: int | None
    metadata: Mapping[str, str]
    working_dir: str


def headers(door: Door) -> dict[str, str]:
    """What lets a request in."""
    return {"Authorization": f"Bearer {door.token}"} if door.token else {}


def open_http(door: Door, timeout_s: float = _TIMEOUT_S) -> "httpx.Client":
    """A client of a door; close it."""
    import httpx

    return httpx.Client(
        base_url=door.address,
        headers=headers(door),
        timeout=timeout_s,
        # A proxy of the environment is not for this machine; certificates are read only where TLS needs them.
        trust_env=urlsplit(door.address).hostname not in _LOOPBACK,
        verify=door.address.startswith("https"),
    )


class JobsClient:
    """One cluster's jobs API. Use it in a `with`."""

    def __init__(self, door: Door, http: "httpx.Client | None" = None) -> None:
        self.door = door
        self._http = http or open_http(door)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def has_package(self, name: str) -> bool:
        """Whether the cluster holds a package; it then keeps it for ten minutes at least."""
        status, _ = self._ask("GET", f"/api/packages/gcs/{name}", ok=(200, 404))
        return status == 200

    def put_package(self, name: str, content: bytes) -> None:
        """Hand a package to the cluster."""
        self._ask("PUT", f"/api/packages/gcs/{name}", content=content)

    def submit(
        self, submission_id: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> None:
        """Ask the cluster to run a command.

        Raises:
            UnavailableError: the cluster did not take it.
        """
        body = {
            "submission_id": submission_id,
            "entrypoint": entrypoint,
            "runtime_env": dict(runtime_env),
            "metadata": dict(metadata),
        }
        self._ask("POST", "/api/jobs/", json=body)

    def jobs(self) -> list[Seen]:
        """Every submitted job that the cluster remembers."""
        _, answer = self._ask("GET", "/api/jobs/")
        return [_seen(one) for one in answer if one.get("submission_id") and one.get("type") == "SUBMISSION"]

    def job(self, submission_id: str) -> Seen | None:
        """One job; None if the cluster does not know it."""
        status, answer = self._ask("GET", f"/api/jobs/{quote(submission_id, safe='')}", ok=(200, 404))
        return _seen(answer) if status == 200 else None

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end. Returns whether it was running."""
        _, answer = self._ask("POST", f"/api/jobs/{quote(submission_id, safe='')}/stop")
        return bool(answer["stopped"])

    def logs(self, submission_id: str) -> str:
        """The whole log as it is now."""
        _, answer = self._ask("GET", f"/api/jobs/{quote(submission_id, safe='')}/logs")
        return str(answer["logs"])

    def _ask(self, method: str, path: str, ok: tuple[int, ...] = (200,), **body: Any) -> tuple[int, Any]:
        import httpx

        try:
            answer = self._http.request(method, path, **body)
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"the jobs API at {self.door.address} does not answer: {error or type(error).__name__}",
                "run `rayplat status`; `rayplat jobs list` then shows whether the job arrived",
            ) from error
        if answer.status_code not in ok:
            last = answer.text.strip().splitlines()[-1:] or [""]
            raise UnavailableError(
                f"the jobs API at {self.door.address} answered {answer.status_code}: {last[0][:400]}",
                "run `rayplat doctor`",
            )
        told = answer.headers.get("content-type", "").startswith("application/json")
        return answer.status_code, answer.json() if told else None


def follow_log(door: Door, submission_id: str) -> Iterator[str]:
    """The job's log from its beginning, as it is written, until the job has ended.

    Raises:
        NotFoundError: the cluster does not know the job.
        UnavailableError: the cluster went away meanwhile.
    """
    import asyncio

    parts = _tail(door, submission_id)
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(_next(parts))
            except StopAsyncIteration:
                return


async def _next(parts: AsyncIterator[str]) -> str:
    return await anext(parts)


async def _tail(door: Door, submission_id: str) -> AsyncIterator[str]:
    import aiohttp

    path = f"{door.address}/api/jobs/{quote(submission_id, safe='')}/logs/tail"
    gone = UnavailableError(
        f"the cluster at {door.address} went away while the log of {submission_id} was followed",
        "`rayplat jobs list` tells what became of it, `rayplat jobs resume` submits it again",
    )
    try:
        async with (
            aiohttp.ClientSession(headers=headers(door)) as session,
            session.ws_connect(path, max_msg_size=0) as socket,
        ):
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    yield message.data
            if socket.close_code == _ABNORMAL or socket.exception() is not None:
                raise gone
    except aiohttp.WSServerHandshakeError as error:
        if error.status == 404:
            raise NotFoundError(
                f"there is no job {submission_id!r}", "`rayplat jobs list` shows them"
            ) from error
        raise gone from error
    except aiohttp.ClientError as error:
        raise gone from error


def _seen(told: Mapping[str, Any]) -> Seen:
    def seconds(name: str) -> float | None:
        return told[name] / 1000 if told.get(name) else None

    return Seen(
        submission_id=str(told["submission_id"]),
        job_id=str(told.get("job_id") or ""),
        entrypoint=str(told.get("entrypoint") or ""),
        status=str(told["status"]),
        message=str(told.get("message") or ""),
        started=seconds("start_time"),
        ended=seconds("end_time"),
        exit_code=told.get("driver_exit_code"),
        metadata=dict(told.get("metadata") or {}),
        working_dir=str((told.get("runtime_env") or {}).get("working_dir") or ""),
    )
