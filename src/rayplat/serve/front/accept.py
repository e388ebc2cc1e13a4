"""What a caller takes as an answer: the header `Accept` (RFC 9110, section 12.5.1).

Knows which media types are answered in parts; it does not know which endpoints do so.
"""

from dataclasses import dataclass

EVENTS = b"text/event-stream"
LINES = b"application/jsonl"
_LINES_TOO = frozenset({LINES, b"application/x-ndjson", b"application/x-jsonlines"})
_PLAIN = frozenset({b"application/json", b"application/*", b"*/*", b"application/vnd.apache.arrow.stream"})


@dataclass(frozen=True, slots=True)
class Accepts:
    """What is taken.

    Attributes:
        stream: the form of parts that the caller likes best of all; None: he wants the answer as one.
        plain: whether he takes it as one.
    """

    stream: bytes | None = None
    plain: bool = True


ANYTHING = Accepts()
"""Said by who says nothing."""


def accepts(value: bytes | None) -> Accepts:
    """What the value of a header `Accept` says; of two that are liked as well, the first one."""
    value = (value or b"").lower()
    if EVENTS not in value and b"json" not in value:
        return ANYTHING
    stream, plain, best = None, False, 0.0
    for given in value.split(b","):
        kind, *parameters = (part.strip() for part in given.split(b";"))
        liked = _quality(parameters)
        if liked <= 0:
            continue
        form = EVENTS if kind == EVENTS else LINES if kind in _LINES_TOO else None
        plain = plain or kind in _PLAIN
        if liked > best and (form is not None or kind in _PLAIN):
            stream, best = form, liked
    # Who takes nothing that is known here is answered as one who has not said anything.
    return Accepts(stream, plain or stream is None)


def _quality(parameters: list[bytes]) -> float:
    for one in parameters:
        name, _, value = one.partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
