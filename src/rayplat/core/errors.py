"""The errors of rayplat: what went wrong, what was seen, and which knob mends it.

Knows the families of errors and their exit codes; it does not know where they are raised or shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class RayplatError(Exception):
    """The root of every error that rayplat raises on purpose.

    Args:
        what: the cause, with the value that was seen, in one sentence.
        mend: what the reader can do about it; empty only where nothing can be done.

    Survives pickling (it crosses Ray processes), and carries the exit code that the CLI ends with.
    """

    exit_code = 1

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what, mend)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  mend: {self.mend}" if self.mend else self.what


class UserError(RayplatError):
    """The input, the project or the settings are at fault: the user can mend it."""

    exit_code = 2


class NotFoundError(UserError):
    """Something was named that does not exist."""

    exit_code = 3


class ConflictError(RayplatError):
    """Somebody else changed the same state first: nothing was written, and a retry is safe."""

    exit_code = 4


class UnavailableError(RayplatError):
    """A part of the platform (Ray, Kafka, the database, an endpoint) does not answer."""

    exit_code = 5


class IntegrityError(RayplatError):
    """Stored bytes are not what was written, or history does not add up. Never retried."""

    exit_code = 6


class BugError(RayplatError):
    """A promise that rayplat makes to itself is broken: please report it."""

    exit_code = 70


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the user's own files."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a project: where it is, what it is, and how to mend it."""

    where: Where | None
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where or '(project)'}: {self.what}\n    mend: {self.mend}"


class ProjectError(UserError):
    """A project that does not hold together, with every fault that was found, not only the first.

    Args:
        address: the project as the user named it.
        faults: at least one fault.
    """

    def __init__(self, address: str, faults: Sequence[Fault]) -> None:
        self.address = address
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(f"project {address!r} has {count} fault{'s' if count != 1 else ''}")

    def __reduce__(self) -> tuple[type["ProjectError"], tuple[str, tuple[Fault, ...]]]:
        return type(self), (self.address, self.faults)

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {fault}" for fault in self.faults)])
