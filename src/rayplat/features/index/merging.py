"""Merging the steps of two sets of rows, as machine code.

Knows that the row that answers among both sets is the greater of the two that answer among each; it does not
know entities by name, nor values.
"""

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.index.kernel import Int64s, UInt32s

Ranked = tuple[Int64s, Int64s, Int64s, Int64s, Int64s]
"""Time, event time, known time, offset and partition by step; one value alone is that of all steps."""


@compiled
def merge_steps(  # noqa: PLR0917 - compiled: no keywords
    old_of: Int64s,
    old_starts: UInt32s,
    old: Ranked,
    new_starts: UInt32s,
    new: Ranked,
    new_wins: bool,
    starts: UInt32s,
    picked: Int64s,
    times: Int64s,
) -> int:
    """Walk the steps of both sets by time, entity by entity.

    Args:
        old_of: the number that each entity has in the old set; -1: none.
        old_starts, new_starts: where each entity's steps begin, and one more; `old`, `new`: the steps.
        new_wins: of rows that nothing else tells apart the new one answers, because it stands later.
        starts: one longer than `old_of`; becomes where each entity's steps begin.
        picked: as long as both sets together; becomes by step which one of the sets it is, the new ones
            counted from the number of old ones on; `times`: becomes from when on it answers.

    Returns:
        How many steps there are.
    """
    old_time, new_time = old[0], new[0]
    behind, made = len(old_time), 0
    for who in range(len(old_of)):
        starts[who] = made
        one = end = np.int64(0)
        if old_of[who] >= 0:
            one, end = np.int64(old_starts[old_of[who]]), np.int64(old_starts[old_of[who] + 1])
        other, last = np.int64(new_starts[who]), np.int64(new_starts[who + 1])
        held_old = held_new = before = np.int64(-1)
        while one < end or other < last:
            now = old_time[one] if one < end else new_time[other]
            if other < last:
                now = min(now, new_time[other])
            if one < end and old_time[one] == now:
                held_old = one
                one += 1
            if other < last and new_time[other] == now:
                held_new = other
                other += 1
            best = held_old
            if held_new >= 0 and (held_old < 0 or _newer(old, held_old, new, held_new, new_wins)):
                best = np.int64(behind + held_new)
            if best != before:
                picked[made], times[made] = best, now
                made += 1
                before = best
    starts[len(old_of)] = made
    return made


@compiled
def _newer(old: Ranked, one: np.int64, new: Ranked, other: np.int64, equal: bool) -> bool:
    """Whether the new row answers rather than the old one."""
    for column in range(1, 5):
        later, earlier = _at(new[column], other), _at(old[column], one)
        if later != earlier:
            return bool(later > earlier)
    return equal


@compiled
def _at(column: Int64s, step: np.int64) -> np.int64:
    return np.int64(column[step] if len(column) > 1 else column[0])


@compiled
def merge_rows(old: Int64s, new: Int64s, behind: int, picked: Int64s, out: Int64s) -> None:
    """Bring the rows of two arrays together.

    Args:
        old, new: the rows, of one width.
        behind: how many of `old` count; `picked`: which row each is, the new ones counted from there on.
        out: becomes the rows.
    """
    for row in range(len(picked)):
        place = picked[row]
        if place < behind:
            for column in range(out.shape[1]):
                out[row, column] = old[place, column]
        else:
            for column in range(out.shape[1]):
                out[row, column] = new[place - behind, column]
