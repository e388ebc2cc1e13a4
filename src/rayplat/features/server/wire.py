"""HTTP/1.1 heads in and out: what stands before a body, read once for each distinct head.

Knows request lines, the few headers that matter and answers' first lines; it does not know routes.

A client repeats its head with every request of a connection. A head that was read before is found by its
bytes in a bounded table, so the strict parser (llhttp) meets each of them once.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from rayplat.features.server.faults import RefusedError

MAX_HEAD_BYTES = 16 * 1024
"""The longest request line with headers."""

MAX_BODY_BYTES = 8 * 1024 * 1024
"""The longest body."""

BINARY = "application/octet-stream"
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a request before its body.

    Attributes:
        method: upper case.
        path: without the query.
        length: of the body, in bytes.
        keep_alive: whether the connection stays open after the answer.
        binary: whether the caller takes the binary form rather than JSON.
        expects: whether the caller waits for `100 Continue` before it sends the body.
    """

    method: str
    path: str
    length: int
    keep_alive: bool
    binary: bool
    expects: bool


class Heads:
    """Reads heads, and remembers what it has read."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, head: bytes) -> Head:
        """What the bytes up to and with the empty line say.

        Raises:
            RefusedError: it is no HTTP/1.1 request, its body has no stated length, or is too long.
        """
        found = self._known.get(head)
        if found is None:
            found = _read(head)
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[head] = found
        return found


@dataclass(frozen=True, slots=True)
class Parsed:
    """What any server needs of a head.

    Attributes:
        headers: by their names in lower case; of a name that comes twice, the last.
        method, path, length, keep_alive, expects: see `Head`.
    """

    method: str
    path: str
    length: int
    keep_alive: bool
    expects: bool
    headers: dict[bytes, bytes]


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


def parse(head: bytes, most_body: int) -> Parsed:
    """Read a head strictly.

    Args:
        most_body: the longest body that is taken, bytes.

    Raises:
        RefusedError: it is no HTTP/1.1 request, its body has no stated length, or is too long.
    """
    import httptools

    seen = _Seen()
    parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(head)
        target = httptools.parse_url(seen.target)
    except httptools.HttpParserUpgrade:
        raise RefusedError(400, "this server speaks HTTP/1.1 only") from None
    except httptools.HttpParserCallbackError as error:
        if isinstance(error.__context__, RefusedError):
            raise error.__context__ from None
        raise RefusedError(400, "the request's head cannot be read") from None
    except httptools.HttpParserError:
        raise RefusedError(400, "the request's head cannot be read") from None
    if not seen.whole:
        raise RefusedError(400, "the request's head cannot be read")
    return Parsed(
        method=parser.get_method().decode(),
        path=(target.path or b"/").decode("ascii", "replace"),
        length=_length(seen.headers, most_body),
        keep_alive=parser.should_keep_alive(),
        expects=seen.headers.get(b"expect", b"").lower() == b"100-continue",
        headers=seen.headers,
    )


def _read(head: bytes) -> Head:
    parsed = parse(head, MAX_BODY_BYTES)
    return Head(
        method=parsed.method,
        path=parsed.path,
        length=parsed.length,
        keep_alive=parsed.keep_alive,
        binary=BINARY.encode() in parsed.headers.get(b"accept", b""),
        expects=parsed.expects,
    )


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


FIRST = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: ".encode()
    for status in HTTPStatus
}
"""What an answer of each status begins with, up to its content type."""

_LENGTH, _END = b"\r\ncontent-length: ", b"\r\n\r\n"
_CLOSE = b"\r\nconnection: close"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def heading(
    status: int,
    kind: bytes,
    size: int,
    *,
    close: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """What an answer begins with, up to its body.

    Args:
        kind: the content type.
        size: of the body, bytes.
        close: whether the connection is closed after it.
        headers: more of them, by name and value.
    """
    more = b"".join([b"\r\n%s: %s" % one for one in headers]) + (_CLOSE if close else b"")
    return b"".join([FIRST[status], kind, _LENGTH, b"%d" % size, more, _END])


def written(number: int, pieces: list[bytes]) -> list[bytes]:
    """Write to a socket what it takes at once; what is left.

    Args:
        number: its descriptor; it does not block.
        pieces: at most 1024.
    """
    try:
        done = os.writev(number, pieces)
    except OSError:  # it takes nothing, or is broken, of which whoever writes the rest is told
        return pieces
    if done == sum(map(len, pieces)):
        return []
    return [b"".join(pieces)[done:]]
