"""Heads of requests: what a replica reads of them.

Knows request lines, lengths and the few headers that matter; it does not know paths. A client repeats its
head, so those without a header of one request only (trace, idempotency) are found again by their bytes.
"""

import re
from dataclasses import dataclass

from rayplat.features.server.faults import RefusedError

MAX_HEAD_BYTES = 16 * 1024
"""The longest request line with headers."""

MAX_KEY_CHARACTERS = 255
_KEPT = 1024
_OF_ONE_REQUEST = (b"traceparent", b"idempotency-key")
# W3C Trace Context, section 3.2: version, trace id, parent id, flags.
_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = b"0" * 32


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
    """

    method: str
    path: str
    length: int
    keep_alive: bool
    expects: bool
    authorization: bytes | None = None
    trace_id: str | None = None
    key: str | None = None


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


class _Seen:
    """What llhttp tells."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.whole = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-length" and self.headers.get(lower, value) != value:
            raise RefusedError(400, "the request states two lengths")
        self.headers[lower] = value

    def on_headers_complete(self) -> None:
        self.whole = True


def _read(data: bytes, most_body: int) -> tuple[Head, dict[bytes, bytes]]:
    import httptools

    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(data)
        target = httptools.parse_url(seen.target)
    except httptools.HttpParserUpgrade:
        raise RefusedError(400, "HTTP/1.1 is spoken here only") from None
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, RefusedError):
            raise error.__context__ from None
        raise RefusedError(400, "the request's head cannot be read") from None
    except httptools.HttpParserError:
        raise RefusedError(400, "the request's head cannot be read") from None
    if not seen.whole:
        raise RefusedError(400, "the request's head cannot be read")
    trace = _TRACE.fullmatch(seen.headers.get(b"traceparent", b""))
    head = Head(
        method=parser.get_method().decode("ascii", "replace"),
        path=(target.path or b"/").decode("ascii", "replace"),
        length=_length(seen.headers, most_body),
        keep_alive=parser.should_keep_alive(),
        expects=seen.headers.get(b"expect", b"").lower() == b"100-continue",
        authorization=seen.headers.get(b"authorization"),
        trace_id=trace[1].decode() if trace and trace[1] != _NO_TRACE else None,
        key=_key(seen.headers.get(b"idempotency-key")),
    )
    return head, seen.headers


def _key(value: bytes | None) -> str | None:
    if value is None:
        return None
    if not value or len(value) > MAX_KEY_CHARACTERS or not value.isascii():
        raise RefusedError(400, f"Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} ASCII characters")
    return value.decode("ascii")


def _length(headers: dict[bytes, bytes], most_body: int) -> int:
    if b"transfer-encoding" in headers:
        # One way to say where a body ends leaves no two readers of different opinion.
        raise RefusedError(411, "send the body with Content-Length, not in chunks")
    stated = headers.get(b"content-length", b"0").strip()
    if not stated.isdigit() or len(stated) > 18:
        raise RefusedError(400, "Content-Length is not a number")
    length = int(stated)
    if length > most_body:
        raise RefusedError(413, f"the body has {length} bytes; the most is {most_body}")
    return length
