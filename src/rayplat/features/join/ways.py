"""Which parts of a source are read, in what order, and whether time orders them.

Knows the bounds of parts; it does not read rows.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayplat.core.project.table import Table
from rayplat.features.instants import BEGINNING
from rayplat.features.join.keys import Keys
from rayplat.features.join.parts import Part

END = int(np.iinfo(np.int64).max)

_HELD = 4.0
_ENOUGH = 1 << 20


@dataclass(frozen=True, slots=True)
class Step:
    """One part to be read.

    Attributes:
        part: its number in the source.
        first: the position of its first row in the source.
        horizon: rows of later steps are not visible before this time; means nothing where time does not
            order the parts.
    """

    part: int
    first: int
    horizon: int


@dataclass(frozen=True, slots=True)
class Way:
    """How a source is read.

    Attributes:
        steps: the parts that can matter, by the time from which their rows are visible where that orders
            them, else as they stand in the source.
        ordered: whether time orders the parts well enough, so that few rows wait for rows of later parts.
        alike: whether of two rows of equal times the one in the later step also stands later in the source.
        enough: rows that are walked at once where it does not: each walk passes over all questions.
    """

    steps: tuple[Step, ...]
    ordered: bool
    enough: int = _ENOUGH
    alike: bool = False


def way(  # noqa: PLR0917 - plain facts, each of another type
    parts: Sequence[Part],
    table: Table,
    key: str | None,
    keys: Keys,
    times: tuple[int, int],
    ttl_us: int | None,
) -> Way:
    """Choose the parts to read and their order.

    Args:
        parts: the source's parts.
        table: its declaration.
        key: the key column, where it is the only one.
        keys: who is asked about.
        times: of the first and the last question, in microseconds.
        ttl_us: no row older than this matters to any question; None: every age does.
    """
    first_rows = np.cumsum([0, *(part.rows for part in parts)]).tolist()
    until = times[1]
    since = None if ttl_us is None else times[0] - ttl_us
    kept: list[tuple[int, int, int]] = []
    for number, part in enumerate(parts):
        event = _bounds(part, table.event_time or table.known_at)
        known = _bounds(part, table.told_by)
        low, high = max(event[0], known[0]), max(event[1], known[1])
        too_old = since is not None and event[1] < since
        if part.rows and low <= until and not too_old and _asked_about(part, key, keys):
            kept.append((low, high, number))
    in_time = sorted(kept, key=lambda bounds: (bounds[0], bounds[2]))
    ordered = _held(parts, in_time) <= _HELD
    if ordered:
        kept = in_time
    horizons = [*(low for low, _, _ in kept[1:]), END][: len(kept)]
    steps = tuple(
        Step(number, first_rows[number], horizon)
        for (_, _, number), horizon in zip(kept, horizons, strict=True)
    )
    # A share of the questions: else their walks would grow with both numbers.
    return Way(steps, ordered, max(_ENOUGH, len(keys.asked) // 4), _alike(kept))


def _alike(kept: Sequence[tuple[int, int, int]]) -> bool:
    following = list(itertools.pairwise(kept))
    risen = all(number < later for (_, _, number), (_, _, later) in following)
    return risen or all(high < low for (_, high, _), (low, _, _) in following)


def _bounds(part: Part, column: str | None) -> tuple[int, int]:
    if column is None:
        return BEGINNING, BEGINNING
    return part.bounds(column) or (BEGINNING, END)


def _asked_about(part: Part, key: str | None, keys: Keys) -> bool:
    span = keys.span
    bounds = part.bounds(key) if key is not None and span is not None else None
    return bounds is None or span is None or (bounds[0] <= span[1] and bounds[1] >= span[0])


def _held(parts: Sequence[Part], kept: Sequence[tuple[int, int, int]]) -> float:
    """About how many parts' rows wait at most, if rows of a part are even in time."""
    most = held = 0.0
    ends: list[tuple[int, int]] = []
    for index, (_, high, number) in enumerate(kept):
        horizon = kept[index + 1][0] if index + 1 < len(kept) else END
        ends = [(end, rows) for end, rows in [*ends, (high, parts[number].rows)] if end >= horizon]
        held = float(sum(rows for _, rows in ends))
        most = max(most, held)
    biggest = max((parts[number].rows for _, _, number in kept), default=1)
    return most / biggest
