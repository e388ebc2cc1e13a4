"""Asking an endpoint over HTTP.

Knows the form of a question and how a refusal reads; it does not know where endpoints are.
"""

from collections.abc import Mapping, Sequence
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
    send = http.post if http is not None else httpx.post
    try:
        answer = send(address, content=body, headers={"content-type": "application/json"}, timeout=timeout_s)
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"{address} does not answer: {error or type(error).__name__}",
            "look whether the endpoint is deployed: `rayplat status`",
        ) from error
    if answer.status_code != httpx.codes.OK:
        raise _refusal(address, answer)
    found: dict[str, Any] = orjson.loads(answer.content)
    return found


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
        return str(content["error"]), [str(f) for f in content.get("faults", [])]
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return answer.text[:200], []
