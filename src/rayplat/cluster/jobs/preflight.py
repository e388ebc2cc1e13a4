"""Knocking before anything is sent: does a Ray of our version listen there, and does it take our token?

Knows what each answer of a door means, and tells it within two seconds; Ray's own client takes twenty
for a refused token, and then says that it could not connect. It does not know what is sent afterwards.
"""

import importlib.metadata
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rayplat.cluster.jobs.address import Door
from rayplat.core.errors import UnavailableError

PATIENCE_S = 1.8
OWN_PATIENCE_S = 20.0
"""A Ray on this machine that listens and is slow to answer is busy or starting, not gone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a status and a body; or why nothing did (`refused`, `silent`, or an error's text)."""

    status: int = 0
    body: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Open:
    """A Ray lets us in."""

    version: str
    session: str


@dataclass(frozen=True, slots=True)
class Shut:
    """Nobody lets us in; `mend` says what to do about it."""

    what: str
    mend: str


def judge(door: Door, answer: Answer, version: str) -> Open | Shut:
    """What an answer to GET /api/version means.

    Args:
        version: the Ray that is installed here.
    """
    at = f"{door.address} (from {door.said_by})"
    if answer.failure:
        return _unanswered(at, answer.failure)
    if answer.status in (401, 403):
        return _token_refused(at, door, answer.status)
    try:
        told = json.loads(answer.body)
        theirs, session = str(told["ray_version"]), str(told.get("session_name") or "")
    except (ValueError, KeyError, TypeError):
        return Shut(
            f"what answers at {at} is no Ray dashboard: it said {answer.status} {answer.body[:80]!r}",
            "give the address of the cluster's dashboard, port 8265 unless it was set otherwise",
        )
    if theirs.split(".")[:2] != version.split(".")[:2]:
        return Shut(
            f"the cluster at {at} runs Ray {theirs}, and Ray {version} is installed here",
            "use the image that the cluster file pins, or install the cluster's version here",
        )
    return Open(theirs, session)


def _unanswered(at: str, failure: str) -> Shut:
    if failure == "refused":
        return Shut(
            f"nothing listens at {at}", "see that the cluster is up and that the address and port are right"
        )
    if failure == "silent":
        return Shut(
            f"{at} does not answer within {PATIENCE_S:g} s",
            "see that the network lets you there (VPN, security group, port forward), and the host is right",
        )
    return Shut(f"{at} cannot be reached: {failure}", "correct the address, or the network")


def _token_refused(at: str, door: Door, status: int) -> Shut:
    if not door.token:
        return Shut(
            f"the cluster at {at} wants a token, and there is none (looked at {door.token_from})",
            "put the cluster's token into ~/.ray/auth_token with mode 0600, or into RAY_AUTH_TOKEN",
        )
    if status == 401:
        return Shut(
            f"the cluster at {at} took no token", "see that no proxy removes the Authorization header"
        )
    return Shut(
        f"the cluster at {at} refuses the token from {door.token_from}",
        "the token is another cluster's, or was changed: fetch the new one",
    )


def preflight(door: Door, ask: Callable[[Door, float], Answer] | None = None) -> Open:
    """Knock, and come back within two seconds.

    Args:
        ask: how a door is asked within some seconds; over HTTP if None.

    Raises:
        UnavailableError: no Ray lets us in; says which of the reasons it is, and the mend.
    """
    asked = ask or knock
    answer = asked(door, PATIENCE_S)
    deadline = time.monotonic() + OWN_PATIENCE_S
    while door.own and answer.failure == "silent" and time.monotonic() < deadline:
        answer = asked(door, PATIENCE_S)
    verdict = judge(door, answer, importlib.metadata.version("ray"))
    if isinstance(verdict, Shut):
        raise UnavailableError(verdict.what, verdict.mend)
    return verdict


def knock(door: Door, within_s: float) -> Answer:
    """Ask over HTTP; comes back in time whatever the network (or the name service) does."""
    found: list[Answer] = []
    asking = threading.Thread(target=lambda: found.append(_get(door, within_s)), daemon=True)
    asking.start()
    asking.join(within_s)
    return found[0] if found else Answer(failure="silent")


def _get(door: Door, within_s: float) -> Answer:
    import httpx

    from rayplat.cluster.jobs.client import open_http

    try:
        with open_http(door, within_s) as client:
            answer = client.get("/api/version")
            return Answer(answer.status_code, answer.text)
    except httpx.TimeoutException:
        return Answer(failure="silent")
    except httpx.ConnectError as error:
        return Answer(failure="refused" if "refused" in str(error).lower() else str(error) or "no connection")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return Answer(failure=str(error) or type(error).__name__)
