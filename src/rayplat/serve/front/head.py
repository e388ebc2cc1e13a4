"""Heads of requests: what a replica reads of them.

Knows request lines, lengths and the few headers that matter; it does not know paths. A client repeats its
head, so those without a header of one request only (trace, idempotency) are found again by their bytes.
"""

from dataclasses import dataclass

from rayplat.features.server.faults import RefusedError
from rayplat.features.server.wire import parse
from rayplat.serve.admission.headers import trace_id
from rayplat.serve.front.accept import ANYTHING, Accepts, accepts
from rayplat.serve.log.idempotency import KEY_FORM, is_key

ARROW = b"application/vnd.apache.arrow.stream"
_KEPT = 1024
_OF_ONE_REQUEST = (b"traceparent", b"idempotency-key")


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a request before its body.

    Attributes:
        path: without the query.
        length: of the body, bytes.
        keep_alive: whether the connection stays open after the answer.
        expects: whether the caller waits for `100 Continue`.
        authorization: the credential's header, as it was sent.
        trace_id: 32 hex digits of `traceparent`.
        key: of `Idempotency-Key`.
        arrow: whether the body is an Arrow IPC stream.
        model: which model or version is asked, of an endpoint with several; of `Rayplat-Model`.
        accepts: in which forms the caller takes the answer.
    """

    method: str
    path: str
    length: int
    keep_alive: bool
    expects: bool
    authorization: bytes | None = None
    trace_id: str | None = None
    key: str | None = None
    arrow: bool = False
    accepts: Accepts = ANYTHING
    model: str | None = None


class Heads:
    """Reads heads, and remembers what it has read.

    Args:
        most_body: the longest body that is taken, bytes.
    """

    def __init__(self, most_body: int) -> None:
        self._most_body = most_body
        self._known: dict[bytes, Head] = {}

    def read(self, data: bytes) -> Head:
        """What the bytes up to and with the empty line say.

        Raises:
            RefusedError: it is no HTTP/1.1 request, its body has no stated length, or is too long.
        """
        found = self._known.get(data)
        if found is None:
            found, headers = _read(data, self._most_body)
            if not any(name in headers for name in _OF_ONE_REQUEST):
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[data] = found
        return found


def _read(data: bytes, most_body: int) -> tuple[Head, dict[bytes, bytes]]:
    parsed = parse(data, most_body)
    head = Head(
        method=parsed.method,
        path=parsed.path,
        length=parsed.length,
        keep_alive=parsed.keep_alive,
        expects=parsed.expects,
        authorization=parsed.headers.get(b"authorization"),
        trace_id=trace_id(parsed.headers.get(b"traceparent")),
        key=_key(parsed.headers.get(b"idempotency-key")),
        arrow=parsed.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == ARROW,
        accepts=accepts(parsed.headers.get(b"accept")),
        model=_model(parsed.headers),
    )
    return head, parsed.headers


def _model(headers: dict[bytes, bytes]) -> str | None:
    """The model that is asked for; Ray Serve's header for it is known too."""
    value = headers.get(b"rayplat-model") or headers.get(b"serve_multiplexed_model_id")
    return None if value is None else value.decode("latin-1")


def _key(value: bytes | None) -> str | None:
    if value is None:
        return None
    if not is_key(value):
        raise RefusedError(400, KEY_FORM)
    return value.decode("ascii")
