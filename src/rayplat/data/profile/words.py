"""Words: the values of a profile as people read them, in a terminal and on a page.

Knows how numbers, times and counts are written; it does not know where they are shown.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rayplat.data.profile.columns import ColumnProfile

_BLOCKS = "▁▂▃▄▅▆▇█"
_LONGEST = 40


def value(given: Any) -> str:
    """A value in few characters; a dash where there is none."""
    if given is None:
        return "-"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, float):
        return _number(given)
    if isinstance(given, int):
        return f"{given:,}"
    if isinstance(given, datetime):
        return f"{given:%Y-%m-%d %H:%M:%S}" if given.time() != datetime.min.time() else f"{given:%Y-%m-%d}"
    text = given.hex() if isinstance(given, bytes) else str(given)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _number(given: float) -> str:
    if given == round(given) and abs(given) < 1e15:
        return f"{round(given):,}"
    return f"{given:,.2f}" if 100 <= abs(given) < 1e12 else f"{given:.4g}"


def share(part: int, whole: int) -> str:
    """A part of a whole in percent; what is there is never told as 0, nor what lacks something as 100."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "< 0.1 %"
    if percent > 99.9 and part < whole:
        return "> 99.9 %"
    return f"{percent:.1f} %" if percent < 99.95 else "100 %"


def distinct(column: ColumnProfile) -> str:
    """How many values a column has; about, where it was estimated."""
    return f"{column.distinct:,}" if column.distinct_exact else f"≈ {_rounded(column.distinct):,}"


def _rounded(count: int) -> int:
    """Three digits: more would claim what a sketch does not know."""
    digits = max(len(str(count)) - 3, 0)
    unit = int(10**digits)
    return round(count / unit) * unit


def sparkline(counts: Sequence[int]) -> str:
    """A histogram in one line; an empty bin is a space, and one with anything in it never is."""
    top = max(counts, default=0)
    if not top:
        return ""
    return "".join(
        " " if not c else _BLOCKS[min(int(c / top * len(_BLOCKS)), len(_BLOCKS) - 1)] for c in counts
    )
