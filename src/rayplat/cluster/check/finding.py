"""What a check found.

Knows a check's outcome; it does not know what is checked.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Literal

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one target: its outcome, what was seen, and what mends it if it failed."""

    target: str
    check: str
    state: State
    what: str
    mend: str = ""


def passed(target: str, check: str, what: str) -> Finding:
    """A check that found what it wanted."""
    return Finding(target, check, "passed", what)


def failed(target: str, check: str, what: str, mend: str) -> Finding:
    """A check that did not."""
    return Finding(target, check, "failed", what, mend)


def skipped(target: str, check: str, what: str, mend: str) -> Finding:
    """A check that could not be made here."""
    return Finding(target, check, "skipped", what, mend)


@contextmanager
def silent() -> Iterator[StringIO]:
    """Keep what the launcher prints away from the answer, for the case that it fails."""
    import logging

    said = StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            yield said
    finally:
        logging.disable(before)


def last_words(said: StringIO, error: BaseException, most: int = 300) -> str:
    """Why the launcher gave up, in a line: the error's own text, or the end of what was printed."""
    text = str(error).strip() or said.getvalue().strip()
    return f"{type(error).__name__}: {' '.join(text.split())[-most:]}"
