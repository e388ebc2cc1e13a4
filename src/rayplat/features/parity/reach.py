"""Which source rows an online store could know at each question: how far it had come, as a column of times.

Knows offsets, how far a store had come, and the order of ties; it does not know expressions nor where
rows come from.

The join asks one thing of a row: is it known at the time of the question? How far a store had come is a
second condition. The two become one: questions are put in chains, in which a question that saw more is also
asked later. Along a chain a row is visible from the later of the time it was known and the first question
that was asked after it had been consumed. That time stands for the known time, and one join answers all
questions of a chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rayplat.features.definition import OFFSET, PARTITION
from rayplat.features.instants import BEGINNING, Int64s

Offsets = Mapping[str, int]
"""The next offset to read, by partition."""

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Chain:
    """Questions that one join can answer.

    Attributes:
        questions: positions of the questions.
        steps: the distinct offsets of the chain, rising.
        step: for each question, the position of its offsets in `steps`.
    """

    questions: Int64s
    steps: tuple[Offsets, ...]
    step: Int64s


def chains(offsets: Sequence[Offsets], of: Int64s, at: Int64s) -> list[Chain]:
    """Put questions in as few chains as a single pass finds.

    Args:
        offsets: distinct offsets.
        of: for each question, the position of its offsets.
        at: the time of each question, in microseconds.
    """
    found: list[Chain] = []
    for run in _rising(offsets):
        rank = np.full(len(offsets), -1, dtype=np.int64)
        rank[run] = np.arange(len(run))
        asked = np.flatnonzero(rank[of] >= 0)
        found.extend(_split([offsets[i] for i in run], asked, rank[of[asked]], at[asked]))
    return found


def _rising(offsets: Sequence[Offsets]) -> list[list[int]]:
    """Positions of offsets in runs that never fall in any partition. One store makes one run."""
    partitions = sorted({p for one in offsets for p in one})
    table = np.zeros((len(offsets), len(partitions)), dtype=np.int64)
    for i, one in enumerate(offsets):
        table[i] = [one.get(p, 0) for p in partitions]
    runs: list[list[int]] = []
    for i in np.argsort(table.sum(axis=1), kind="stable").tolist():
        for run in runs:
            if (table[i] >= table[run[-1]]).all():
                run.append(i)
                break
        else:
            runs.append([i])
    return runs


def _split(steps: list[Offsets], asked: Int64s, step: Int64s, at: Int64s) -> list[Chain]:
    """Cut the questions of a run so that in each part more offsets mean a later time."""
    order = np.lexsort((at, step))
    # By chain: its step, the latest time of its earlier steps, the latest time of this one.
    open_: list[tuple[int, int, int]] = []
    chosen = np.zeros(len(order), dtype=np.int64)
    for i, s, t in zip(order.tolist(), step[order].tolist(), at[order].tolist(), strict=True):
        for c, (current, before, latest) in enumerate(open_):
            floor = before if current == s else latest
            if t > floor:
                open_[c] = (s, floor, max(t, latest))
                chosen[i] = c
                break
        else:
            chosen[i] = len(open_)
            open_.append((s, BEGINNING, t))
    return [Chain(asked[chosen == c], tuple(steps), step[chosen == c]) for c in range(len(open_))]


def consumed_at(source: pl.DataFrame, steps: Sequence[Offsets]) -> Int64s:
    """For each source row the first of rising `steps` that has consumed it; `len(steps)`: none has."""
    partition = source.get_column(PARTITION).to_numpy()
    offset = source.get_column(OFFSET).to_numpy()
    found = np.full(source.height, len(steps), dtype=np.int64)
    for number in np.unique(partition).tolist():
        ends = np.array([one.get(str(number), 0) for one in steps], dtype=np.int64)
        rows = partition == number
        found[rows] = np.searchsorted(ends, offset[rows], side="right")
    return found


def visible_from(known: Int64s, consumed: Int64s, chain: Chain, at: Int64s) -> Int64s:
    """The time from which the questions of a chain see each row, for the conditions that are not its event.

    Args:
        known: the known time of each row, in microseconds.
        consumed: see `consumed_at`, of the chain's steps.
        chain: the chain.
        at: the time of each of the chain's questions.

    Returns:
        microseconds; `NEVER` where no question of the chain sees the row.
    """
    first = np.full(len(chain.steps) + 1, NEVER, dtype=np.int64)
    np.minimum.at(first, chain.step, at)
    first = np.minimum.accumulate(first[::-1])[::-1]
    # What was consumed before the chain's first question keeps its own time, and with it its place in ties.
    first[: int(chain.step.min()) + 1] = BEGINNING
    return np.maximum(known, first[consumed])


def outranked(source: pl.DataFrame, keys: Sequence[str], rank: Sequence[str], visible: str) -> pl.Series:
    """Rows that can never be an entity's last one: a row of the same event time and higher rank is visible
    no later.

    With them left out, the later a row of one event time is visible, the higher its rank: a join that breaks
    ties by `visible` breaks them as `rank` does.

    Args:
        source: the rows.
        keys: the entity columns, and the event time where there is one.
        rank: the columns that break ties, the first one first.
        visible: the column with the time of visibility, the event time included.
    """
    coded = source.select(*keys, *rank, visible).with_row_index("\0row")
    tied = coded.filter(pl.struct(keys).is_duplicated())
    beaten = (
        tied.sort(rank, descending=True, nulls_last=True, maintain_order=True)
        .with_columns(
            pl.col(visible).cum_min().shift(1).over(list(keys)).alias("\0least"),
        )
        .filter(pl.col("\0least") <= pl.col(visible))
        .get_column("\0row")
    )
    mask = np.zeros(source.height, dtype=bool)
    mask[beaten.to_numpy()] = True
    return pl.Series("\0beaten", mask)
