"""The order of a log: whether a source's rows stand in it as they stand in the source.

Knows offsets and partitions of parts; it does not know times. Where one partition's offsets rise from row to
row, the position of a row says what its offset says, and the offsets need not be carried along.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rayplat.features.definition import OFFSET
from rayplat.features.join import arrays, kernels
from rayplat.features.join.parts import Part
from rayplat.features.join.turns import in_threads


@dataclass(frozen=True, slots=True)
class _Run:
    """Values of a column that rise from row to row; in `alike` columns they are all equal."""

    first: int
    last: int


def in_log_order(parts: Sequence[Part], ties: Sequence[str]) -> bool:
    """Whether position decides between any two rows as offset and partition would.

    Args:
        parts: the source, in the order of positions.
        ties: the columns that decide where times are equal: offset, partition or both.
    """
    runs: dict[tuple[int, str], _Run | None] = {}

    def look(number: int, name: str) -> None:
        runs[number, name] = _run(parts[number], name, alike=name != OFFSET)

    filled = [number for number, part in enumerate(parts) if part.rows]
    in_threads([partial(look, number, name) for number in filled for name in ties])
    for name in ties:
        before: _Run | None = None
        for number in filled:
            run = runs[number, name]
            if run is None or (before is not None and not _follows(before, run, alike=name != OFFSET)):
                return False
            before = run
    return True


def _follows(before: _Run, run: _Run, *, alike: bool) -> bool:
    return run.first == before.last if alike else run.first > before.last


def _run(part: Part, name: str, *, alike: bool) -> _Run | None:
    """A part's values, if they are in order and none is null."""
    whole: _Run | None = None
    for batch in part.batches([name]):
        column = batch.column(0)
        if len(column) == 0:
            continue
        if column.null_count:
            return None
        values = arrays.integers(column)
        run = _Run(int(values[0]), int(values[-1]))
        if not (kernels.is_constant(values) if alike else kernels.is_climbing(values)):
            return None
        if whole is not None and not _follows(whole, run, alike=alike):
            return None
        whole = run if whole is None else _Run(whole.first, run.last)
    return whole
