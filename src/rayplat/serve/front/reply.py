"""Replies: status, headers and body as bytes on the wire.

Knows how an answer and a problem document (RFC 9457) are written; it does not know what they tell.
"""

from dataclasses import dataclass

from rayplat.core.errors import BugError, NotFoundError, UnavailableError, UserError
from rayplat.core.telemetry import get_logger
from rayplat.features.server.faults import PROBLEM, RefusedError, problem
from rayplat.features.server.wire import FIRST
from rayplat.serve.admission.decision import NotAdmittedError, Refused
from rayplat.serve.admission.headers import refusal_headers
from rayplat.serve.front.body import Body
from rayplat.serve.multiplex.chosen import NotLoadedError
from rayplat.serve.predictor import NotLoggedError
from rayplat.serve.request import RequestError

JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered; `more` is further header lines, each ended with CRLF.

    Attributes:
        stream: comes after the head in chunks, in the place of `body`; None: `body` is all there is.
    """

    body: bytes
    status: int = 200
    kind: bytes = JSON
    more: bytes = b""
    stream: Body | None = None

    def wire(self, *, close: bool, bodiless: bool = False) -> bytes:
        """The bytes on the wire.

        Args:
            close: whether the connection is closed after it.
            bodiless: an answer to HEAD.
        """
        ending = b"connection: close\r\n\r\n" if close else b"\r\n"
        if self.stream is not None:
            chunked = b"\r\ntransfer-encoding: chunked\r\n"
            return b"".join((FIRST[self.status], self.kind, chunked, self.more, ending))
        length = b"\r\ncontent-length: %d\r\n" % len(self.body)
        body = b"" if bodiless else self.body
        return b"".join((FIRST[self.status], self.kind, length, self.more, ending, body))


def refused(refusal: Refused) -> Reply:
    """A request that admission did not let in (RFC 6750, section 3; RFC 9110, section 10.2.3)."""
    more = b"".join(b"%b: %b\r\n" % header for header in refusal_headers(refusal))
    return Reply(problem(refusal.status, refusal.problem), refusal.status, PROBLEM, more)


def cause_of(error: BaseException) -> str:
    """What made a request fail, as the metric of errors names it; one of few."""
    if isinstance(error, NotAdmittedError):
        return "limits"
    if isinstance(error, NotLoggedError):
        return "log"
    if isinstance(error, NotLoadedError):
        return "model"
    if isinstance(error, UnavailableError | NotFoundError):
        return "features"
    if isinstance(error, RefusedError | UserError):
        return "request"
    return "model" if isinstance(error, BugError) else "internal"


def _not_now(error: UnavailableError | NotFoundError) -> Reply:
    if isinstance(error, NotLoadedError):
        told = problem(503, f"the model {error.name!r} cannot be loaded here: ask later, or for another one")
        return Reply(told, 503, PROBLEM, b"retry-after: 5\r\n")
    get_logger("serve.front").error("unavailable", error=str(error))
    told = problem(503, "the endpoint cannot answer now: ask again in a moment")
    return Reply(told, 503, PROBLEM, b"retry-after: 1\r\n")


def reply_to(error: BaseException) -> Reply:
    """What was raised, as a problem document: no traces, no inner state.

    A view that was never materialized is the server's affair (503): the caller asked for what is declared.
    """
    if isinstance(error, RefusedError):
        more = f"allow: {error.allow}\r\n".encode() if error.allow else b""
        return Reply(problem(error.status, error.detail), error.status, PROBLEM, more)
    if isinstance(error, NotAdmittedError):
        return refused(error.refused)
    if isinstance(error, RequestError):
        told = problem(error.status, "the request cannot be answered", faults=error.faults)
        return Reply(told, error.status, PROBLEM)
    if isinstance(error, UnavailableError | NotFoundError):
        return _not_now(error)
    if isinstance(error, UserError):
        return Reply(problem(422, "the request cannot be answered", faults=[error.what]), 422, PROBLEM)
    get_logger("serve.front").error("a request failed", exc_info=error)
    return Reply(problem(500, "the endpoint failed; its log says why"), 500, PROBLEM)
