"""How large work is cut: into how many partitions, and which of them are answered by several tasks.

Knows numbers and types of rows; it does not know rows. All of it is pure.
"""

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

_GUESS = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What one task may hold.

    Attributes:
        here_rows: so many questions are still answered in one process, without Ray.
        here_bytes: and so many bytes of them.
        shared: up to so many questions are given to every task, which streams a share of the events through
            them; more, and those of windows, are cut by entity together with the events.
        events: rows of a source in a partition, on average; `bytes`: and their size in memory.
        share: rows of a source that one task cuts, at most one row group more.
        questions: questions in a partition, on average; a task has no more than twice as many.
        block: questions that travel, and come back, together.
    """

    here_rows: int = 20_000_000
    here_bytes: int = 2 << 30
    shared: int = 20_000_000
    events: int = 2_000_000
    bytes: int = 256 << 20
    share: int = 1_000_000
    questions: int = 1_000_000
    block: int = 1_000_000


DEFAULT = Limits()


def stays_here(questions: int, size: int, limits: Limits = DEFAULT) -> bool:
    """Whether one process answers: the questions are what it has to hold; events are streamed or few.

    Args:
        questions: how many.
        size: of the asking rows, bytes.
    """
    return questions <= limits.here_rows and size <= limits.here_bytes


def row_bytes(schema: pa.Schema) -> int:
    """About how many bytes a row takes in memory; texts and lists are guessed."""
    return sum(max(kind.bit_width // 8, 1) if _fixed(kind) else _GUESS for kind in schema.types)


def _fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind))


def partitions(events: int, questions: int, row: int, limits: Limits) -> int:
    """How many partitions there are: at least 1, and never more than 2^16.

    Args:
        events: rows of the source; `row`: the bytes of each (see `row_bytes`).
        questions: how many.
    """
    wanted = max(
        math.ceil(events / limits.events),
        math.ceil(events * row / limits.bytes),
        math.ceil(questions / limits.questions),
        1,
    )
    return min(wanted, 1 << 16)


def slices(counts: Sequence[int], limits: Limits) -> list[int]:
    """Into how many tasks the questions of each partition go; 0 for one that nobody asks.

    A hot entity is in one partition whatever their number, so its questions are what is split; each task then
    reads the same events.

    Args:
        counts: questions by partition.
    """
    most = 2 * limits.questions
    return [
        0 if count == 0 else 1 if count <= most else math.ceil(count / limits.questions) for count in counts
    ]


def shares(weights: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Neighbouring parts of about the same weight together: begin and end of each share; none is empty.

    Args:
        weights: of the parts, such as rows that must be read.
        count: how many shares are wanted.
    """
    before = list(itertools.accumulate(weights, initial=0))
    wanted = [bisect.bisect_left(before, before[-1] * i / count) for i in range(count)]
    ends = [*wanted, len(weights)]
    return [(begin, end) for begin, end in itertools.pairwise(ends) if before[begin] < before[end]]
