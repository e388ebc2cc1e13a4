"""The events of a streamed answer as bytes: Server-Sent Events, or lines of JSON.

Knows both forms; it does not know what an event tells. A stream is `prediction`, any number of `part`, and
then `done` or `error`: without one of these two it has broken off.
"""

from collections.abc import Callable
from typing import Any

import orjson

from rayplat.serve.front.accept import EVENTS, LINES

PREDICTION, PART, DONE, ERROR = "prediction", "part", "done", "error"

Write = Callable[[str, bytes], bytes]
"""The name of an event and its JSON -> its bytes."""


def event(name: str, data: bytes) -> bytes:
    """An event of `text/event-stream` (WHATWG HTML, section 9.2). JSON of this place has no line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def line(name: str, data: bytes) -> bytes:
    """A line of `application/jsonl`."""
    return b'{"event":"%b","data":%b}\n' % (name.encode(), data)


WRITE: dict[bytes, Write] = {EVENTS: event, LINES: line}
"""How each form is written."""


def json_of(part: Any) -> bytes:
    """A part as JSON; NaN is null.

    Raises:
        TypeError: it is no JSON value.
    """
    return orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
