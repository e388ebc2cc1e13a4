"""Asking an endpoint over HTTP.

Knows the form of a question, how a refusal reads and when it says to ask again; it does not know where
endpoints are.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx
import orjson

from rayplat.core.errors import BugError, NotFoundError, UnavailableError, UserError

TIMEOUT_S = 30.0


def predict(
    url: str,
    instances: Sequence[Mapping[str, Any]],
    at: datetime | str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    http: httpx.Client | None = None,
) -> dict[str, Any]:
    """Ask for predictions.

    Args:
        url: the endpoint's address, as `deploy` returns it, with or without `/predict`.
        instances: one mapping of column to value each; datetimes are sent as ISO text.
        at: the time that the features shall be of; now, where not given.
        timeout_s: of one answer; an endpoint that names a time to ask again is asked again for as long.
        http: a client whose connections are used again; a fresh one for this call where not given.

    Returns:
        `{"endpoint", "model", "version", "predictions": [{"id", "probability", "positive"}]}`.

    Raises:
        UserError: the request was refused; the message lists every fault.
        NotFoundError: nothing answers at this path.
        UnavailableError: the endpoint does not answer, or cannot now.
    """
    address = url if url.endswith("/predict") else f"{url.rstrip('/')}/predict"
    body = orjson.dumps({"instances": [dict(i) for i in instances], "at": at})
    end = time.monotonic() + timeout_s
    while (answer := _sent(address, body, timeout_s, http)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        pause = _pause(answer)
        if pause is None or time.monotonic() + pause > end:
            break
        time.sleep(pause)
    if answer.status_code != httpx.codes.OK:
        raise _refusal(address, answer)
    found: dict[str, Any] = orjson.loads(answer.content)
    return found


def stream(
    url: str,
    instance: Mapping[str, Any],
    at: datetime | str | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
    http: httpx.Client | None = None,
) -> Iterator[tuple[str, Any]]:
    """Ask for an answer in parts.

    Args:
        url, instance, at, http: as for `predict`; one instance.
        timeout_s: so long the next part may take.

    Yields:
        The name and the content of each event: `prediction` with the id, `part`, and `done` at last. Who has
        not got `done` has no acknowledged prediction.

    Raises:
        UserError: the request was refused, or the endpoint does not answer in parts.
        NotFoundError: nothing answers at this path.
        UnavailableError: the endpoint does not answer, or the stream has ended without `done`.
    """
    address = url if url.endswith("/predict") else f"{url.rstrip('/')}/predict"
    body = orjson.dumps({"instances": [dict(instance)], "at": at})
    headers = {"content-type": "application/json", "accept": "application/jsonl"}
    with contextlib.ExitStack() as stack:
        asking = http or stack.enter_context(httpx.Client())
        try:
            answer = stack.enter_context(
                asking.stream("POST", address, content=body, headers=headers, timeout=timeout_s)
            )
            if answer.status_code != httpx.codes.OK:
                answer.read()
                raise _refusal(address, answer)
            for line in answer.iter_lines():
                told = orjson.loads(line)
                if told["event"] == "error":
                    raise UnavailableError(f"{address} has failed: {told['data']['detail']}", "ask again")
                yield told["event"], told["data"]
                if told["event"] == "done":
                    return
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"{address} has broken off: {error or type(error).__name__}", "ask again"
            ) from error
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"{address} does not speak in events: {error}", "look at the address"
            ) from error
    raise UnavailableError(f"{address} has ended without `done`", "ask again")


def _sent(address: str, body: bytes, timeout_s: float, http: httpx.Client | None) -> httpx.Response:
    send = http.post if http is not None else httpx.post
    try:
        return send(address, content=body, headers={"content-type": "application/json"}, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"{address} does not answer: {error or type(error).__name__}",
            "look whether the endpoint is deployed: `rayplat status`",
        ) from error


def _pause(answer: httpx.Response) -> float | None:
    """The seconds after which the endpoint says that asking again may help; None: it does not say."""
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else None


def _refusal(address: str, answer: httpx.Response) -> UserError | UnavailableError | BugError:
    status = answer.status_code
    what, faults = _told(answer)
    listed = "".join(f"\n  {fault}" for fault in faults)
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(
            f"nothing answers at {address}: {what}", "deploy the endpoint, or correct the address"
        )
    if status in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT, httpx.codes.REQUEST_TIMEOUT}:
        return UnavailableError(f"{address} cannot answer now ({status}): {what}", "ask again in a moment")
    if httpx.codes.is_client_error(status):
        return UserError(f"{address} refused the request ({status}): {what}{listed}", "correct the instances")
    return BugError(f"{address} failed ({status}): {what}", "look at the replica's log")


def _told(answer: httpx.Response) -> tuple[str, list[str]]:
    try:
        content = orjson.loads(answer.content)
        return str(content["detail"]), [str(f) for f in content.get("faults", [])]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return answer.text[:200], []
