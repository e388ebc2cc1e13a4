"""Losses that tests bring about: a crash at a named point, and an acknowledgement that never arrives.

Knows the seams of commits and maintenance; it does not know what is lost by them, which should be nothing.
"""

from collections.abc import Collection, Sequence
from typing import Any

from rayplat.data.lakehouse.files import DataFile
from rayplat.data.lakehouse.snapshot import Base, SnapshotAttempt


class CrashError(BaseException):
    """Stands for a kill."""


def die_at(point: str, now: str) -> None:
    """Crash when maintenance has done the step `point`; empty: never."""
    if now == point:
        raise CrashError(point)


class LostAcknowledgement(SnapshotAttempt):
    """An attempt that lands, and nobody hears of it."""

    def commit(self) -> int:
        super().commit()
        raise OSError("the connection was reset")


class LosesOne:
    """Makes attempts, the first of which loses its acknowledgement."""

    def __init__(self) -> None:
        self.lost = 0

    def __call__(
        self, base: Base, files: Sequence[DataFile], properties: Any, *, removed: Collection[str] = ()
    ) -> SnapshotAttempt:
        self.lost += 1
        kind = LostAcknowledgement if self.lost == 1 else SnapshotAttempt
        return kind(base, files, properties, removed=removed)
