"""Sorting questions by time in two steps, as machine code: by the high bits of time, then within those.

Knows arrays of numbers only; it does not know how many bits suit them. Both steps write to few places at a
time, which stay in the cache, whereas one step over as many buckets as questions misses it with each write.
"""

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s
from rayplat.features.join.arrays import Values


@compiled
def spread(  # noqa: PLR0917 - compiled: no keywords
    at: Int64s, code: Values, low: int, shift: int, start: Int64s, pairs: Int64s
) -> None:
    """Bring questions into the order of their times but for the `shift` lowest bits.

    Args:
        at: times; `low`: the least of them; `code`: entities.
        start: zeros, two more than there are different high bits; becomes where each bucket begins.
        pairs: becomes time, and row and entity in one, of each question in that order; shape (questions, 2).
    """
    for row in range(len(at)):
        start[((at[row] - low) >> shift) + 2] += 1
    for bucket in range(2, len(start)):
        start[bucket] += start[bucket - 1]
    for row in range(len(at)):
        bucket = ((at[row] - low) >> shift) + 1
        place = start[bucket]
        start[bucket] = place + 1
        pairs[place, 0] = at[row]
        pairs[place, 1] = (np.int64(row) << 32) | np.int64(np.uint32(code[row]))


@compiled
def settle(  # noqa: PLR0917 - compiled: no keywords
    pairs: Int64s,
    start: Int64s,
    first: int,
    last: int,
    low: int,
    bits: tuple[int, int],
    most: int,
    out: tuple[Int64s, Int64s, Values],
) -> bool:
    """Sort the questions of the buckets [first, last), and part them into columns.

    Args:
        pairs, start: what `spread` made of times of which `low` is the least.
        bits: the lowest ones that `spread` left out, and how many of those are left to the last step.
        most: the work which that may be, in squares of the numbers of questions that differ in those only.
        out: becomes row, time and entity of each question, in order.

    Returns:
        False where the times lie too unevenly, so that it would be more; `out` is not whole then.
    """
    order, times, codes = out
    shift, rest = bits
    mask = (1 << (shift - rest)) - 1
    biggest, cost = 0, 0
    for bucket in range(first, last):
        biggest = max(biggest, start[bucket + 1] - start[bucket])
    near, place = np.empty((biggest, 2), np.int64), np.empty(mask + 3, np.int64)
    for bucket in range(first, last):
        begin, end = start[bucket], start[bucket + 1]
        place[:] = 0
        for index in range(begin, end):
            place[(((pairs[index, 0] - low) >> rest) & mask) + 2] += 1
        for part in range(2, len(place)):
            cost += place[part] * place[part]
            place[part] += place[part - 1]
        if cost > most:
            return False
        for index in range(begin, end):
            part = (((pairs[index, 0] - low) >> rest) & mask) + 1
            near[place[part], 0], near[place[part], 1] = pairs[index, 0], pairs[index, 1]
            place[part] += 1
        _insert(near, end - begin)
        for index in range(end - begin):
            order[begin + index] = near[index, 1] >> 32
            times[begin + index] = near[index, 0]
            codes[begin + index] = np.int32(near[index, 1] & 0xFFFFFFFF)
    return True


@compiled
def _insert(pairs: Int64s, count: int) -> None:
    """Put the first `count` questions, which are nearly sorted, into the right order."""
    for step in range(count):
        time, who = pairs[step, 0], pairs[step, 1]
        back = step
        while back > 0 and pairs[back - 1, 0] > time:
            pairs[back, 0] = pairs[back - 1, 0]
            pairs[back, 1] = pairs[back - 1, 1]
            back -= 1
        pairs[back, 0] = time
        pairs[back, 1] = who
