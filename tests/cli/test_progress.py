"""Progress: plain lines in a log, a bar and a line for each finished step in a terminal."""

import io

import pytest
from rich.console import Console

from rayplat.cli.progress import Lines, Live, open_progress


def through(progress: Lines | Live) -> None:
    with progress as shown:
        shown.begin(1, 2, "Take in the events")
        shown.note("10 rows", 0.5)
        shown.finish("20 rows [main] taken in")


def test_a_log_gets_lines_with_the_step_and_the_outcome() -> None:
    out = io.StringIO()
    progress = open_progress(Console(file=out, width=200))
    assert isinstance(progress, Lines)
    through(progress)
    first, last = out.getvalue().splitlines()
    assert first == "[1/2] Take in the events …"
    assert last.startswith("[1/2] Take in the events (0.")
    assert last.endswith("s): 20 rows [main] taken in")


def test_a_terminal_gets_a_line_for_each_finished_step() -> None:
    out = io.StringIO()
    progress = open_progress(Console(file=out, width=200, force_terminal=True))
    assert isinstance(progress, Live)
    through(progress)
    assert "20 rows [main] taken in" in out.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_within_a_step_is_not_swallowed(terminal: bool) -> None:
    progress = open_progress(Console(file=io.StringIO(), force_terminal=terminal))
    with pytest.raises(ValueError, match="as it was"), progress:
        raise ValueError("as it was")
