"""How long work tells how far it is.

Knows the protocol and a silent implementation; it does not know a terminal.
"""

from typing import Protocol


class Progress(Protocol):
    """Long work calls these; a terminal shows a bar, a log gets lines."""

    def begin(self, number: int, total: int, title: str) -> None:
        """Step `number` of `total` begins."""

    def note(self, text: str, fraction: float | None = None) -> None:
        """Something happened within the step; `fraction` in [0, 1] tells how far it is."""

    def finish(self, summary: str) -> None:
        """The step is done; `summary` says what came out, in one line."""


class Silent:
    """Tells nobody."""

    def begin(self, number: int, total: int, title: str) -> None:
        """Nothing is shown."""

    def note(self, text: str, fraction: float | None = None) -> None:
        """Nothing is shown."""

    def finish(self, summary: str) -> None:
        """Nothing is shown."""
