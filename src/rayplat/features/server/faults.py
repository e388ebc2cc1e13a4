"""Errors as answers: problem documents (RFC 9457) with a status each.

Knows which error is the caller's and which is the server's; it does not know what was asked.
"""

from http import HTTPStatus

import orjson

from rayplat.core.errors import NotFoundError, RayplatError, UnavailableError, UserError
from rayplat.features.parity.backlog import BacklogError

PROBLEM = b"application/problem+json"


class RefusedError(Exception):
    """A request that is answered with a status of its own.

    Args:
        status: the HTTP status, 400 or above.
        detail: what is wrong, with the value seen, for the caller.
        allow: for 405, the methods that are answered.
    """

    def __init__(self, status: int, detail: str, allow: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.allow = allow


def problem(status: int, detail: str, **more: object) -> bytes:
    """A problem document: `type`, `title`, `status` and `detail`."""
    title = HTTPStatus(status).phrase
    return orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, **more})


def headers_of(error: BaseException) -> list[tuple[bytes, bytes]]:
    """The headers that go with `answer_to`."""
    if isinstance(error, RefusedError) and error.allow:
        return [(b"allow", error.allow.encode())]
    return [(b"retry-after", b"%d" % error.retry_after_s)] if isinstance(error, BacklogError) else []


def answer_to(error: BaseException) -> tuple[int, bytes]:
    """The status and the problem document for what was raised; no traces, no inner state.

    A view that was never materialized is the server's affair (503): the caller asked for what is declared.
    """
    if isinstance(error, RefusedError):
        return error.status, problem(error.status, error.detail)
    if isinstance(error, UnavailableError | NotFoundError):
        return 503, problem(503, error.what, mend=error.mend)
    if isinstance(error, UserError):
        return 422, problem(422, error.what, mend=error.mend)
    if isinstance(error, RayplatError):
        return 503, problem(503, "the online store cannot answer now; the server's log says why")
    return 500, problem(500, "the server failed; its log says why")
