"""What a check of the doctor found.

Knows the three outcomes; it does not know what was checked.
"""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, how it came out, what was seen, and how to mend it (empty when ok)."""

    check: str
    outcome: Outcome
    seen: str
    mend: str = ""


def ok(check: str, seen: str) -> Finding:
    """Nothing to mend."""
    return Finding(check, Outcome.OK, seen)


def warn(check: str, seen: str, mend: str) -> Finding:
    """It works, yet not as well as it could."""
    return Finding(check, Outcome.WARN, seen, mend)


def fail(check: str, seen: str, mend: str) -> Finding:
    """The platform does not run so."""
    return Finding(check, Outcome.FAIL, seen, mend)
