"""Progress of long work: a live line in a terminal, plain lines in a log, silence for JSON.

Knows how steps are shown; it does not know what a step does.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_EVERY_S = 5.0


class Lines:
    """Plain lines, at most one note in five seconds: for logs and pipes."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._title = ""
        self._begin = self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begin(self, number: int, total: int, title: str) -> None:
        """A step begins."""
        self._title, self._begin = f"[{number}/{total}] {title}", time.monotonic()
        self._say(f"{self._title} …")

    def note(self, text: str, fraction: float | None = None) -> None:
        """Something happened within the step."""
        if time.monotonic() - self._last >= _LINE_EVERY_S:
            share = f" {fraction:.0%}" if fraction is not None else ""
            self._say(f"{self._title}{share}: {text}")

    def finish(self, summary: str) -> None:
        """The step is done."""
        self._say(f"{self._title} ({time.monotonic() - self._begin:.1f} s): {summary}")

    def _say(self, line: str) -> None:
        self._last = time.monotonic()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class Live:
    """A bar for the step that runs, and a line for each that is done: for a terminal."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console
        self._bars: RichProgress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._title = ""
        self._begin = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, number: int, total: int, title: str) -> None:
        """A step begins."""
        self._title, self._begin = f"{number}/{total} {title}", time.monotonic()
        self._task = self._bars.add_task(f"[bold]{self._title}", total=None, note="")

    def note(self, text: str, fraction: float | None = None) -> None:
        """Something happened within the step."""
        if self._task is not None:
            total = None if fraction is None else 1.0
            self._bars.update(self._task, note=text, completed=fraction or 0.0, total=total)

    def finish(self, summary: str) -> None:
        """The step is done."""
        from rich.text import Text

        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        seconds = time.monotonic() - self._begin
        line = Text.assemble(
            ("✓ ", "green"), (self._title, "bold"), (f" {seconds:.1f} s", "dim"), f"  {summary}"
        )
        self._console.print(line, highlight=False)


def open_progress(console: "Console") -> Live | Lines:
    """The kind of progress that fits where the output goes."""
    return Live(console) if console.is_terminal else Lines(console)
