"""The kernels of the index: steps of winners made out of rows, and questions answered from steps.

Knows arrays of integers; it does not know files, columns or types.

A step says from when on which row answers for an entity. An entity's n steps lie together, rising by time. A
directory of 2n slots cuts the time of the whole index into 2n equal parts for that entity, and tells for each
part the step after its last one: a question looks at one slot and, mostly, at one step.

A question costs a few cache misses and little else, so questions are taken by the block and each stage is
carried out for the whole block: the misses of different questions then overlap.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rayplat.core.compiled import compiled

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

BLOCK = 512
SLOTS = 2
"""Slots of the directory a step."""


def frozen(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The array as one that cannot be written to: kernels are compiled anew for each kind of array."""
    view = array.view()
    view.flags.writeable = False
    return view


@compiled
def group_rows(code: Int64s, order: Int64s, starts: Int64s, rows: Int64s) -> None:
    """Rows by entity, each entity's in the order given (a counting sort).

    Args:
        code: the entity of each row; -1: none, which drops the row.
        order: positions of rows.
        starts: two more than there are entities, zero; filled but for the last: where an entity's rows begin.
        rows: as long as `code`; its beginning is filled with the positions of the rows.
    """
    for i in range(len(code)):
        if code[i] >= 0:
            starts[code[i] + 2] += 1
    for c in range(2, len(starts)):
        starts[c] += starts[c - 1]
    for i in range(len(order)):
        c = code[order[i]]
        if c >= 0:
            rows[starts[c + 1]] = order[i]
            starts[c + 1] += 1


@compiled
def winner_steps(  # noqa: PLR0917  # kernels take no keywords
    rows: Int64s,
    starts: Int64s,
    visible: Int64s,
    event: Int64s,
    known: Int64s,
    offset: Int64s,
    partition: Int64s,
    winner: Int64s,
) -> int:
    """The steps of each entity: which row is the greatest of those visible, from when on.

    The greatest is by event time, known time, offset, partition, position.

    Args:
        rows: positions of rows by entity, within an entity by rising visibility.
        starts: where each entity's rows begin, and their end; filled anew: where its steps begin.
        visible: by row, from when on it is seen; `event`, `known`, `offset`, `partition`: by row.
        winner: as long as `rows`; filled with the row that answers from each step on. The time of the step
            goes to the same place of `rows`.

    Returns:
        How many steps there are.
    """
    made = 0
    begin = starts[0]
    for c in range(len(starts) - 1):
        end = starts[c + 1]
        first = made
        starts[c] = first
        for j in range(begin, end):
            row = rows[j]
            seen = visible[row]
            if made > first:
                best = winner[made - 1]
                if event[row] != event[best]:
                    wins = event[row] > event[best]
                elif known[row] != known[best]:
                    wins = known[row] > known[best]
                elif offset[row] != offset[best]:
                    wins = offset[row] > offset[best]
                elif partition[row] != partition[best]:
                    wins = partition[row] > partition[best]
                else:
                    wins = row > best
                if not wins:
                    continue
                if rows[made - 1] == seen:
                    made -= 1
            winner[made] = row
            # Never ahead of what is read: an entity has no more steps than rows.
            rows[made] = seen
            made += 1
        begin = end
    starts[len(starts) - 1] = made
    return made


@compiled
def fill_directory(starts: UInt32s, steps: Int64s, shape: UInt64s, directory: UInt32s) -> None:
    """Tell for each slot of each entity the step after the last one whose time is in it or before.

    Args:
        starts: where each entity's steps begin, and one more.
        steps: see `look_up`; `shape`: too.
        directory: filled; `SLOTS` a step.
    """
    for c in range(len(starts) - 1):
        step, end = np.uint64(starts[c]), np.uint64(starts[c + 1])
        begin, slots = step * np.uint64(SLOTS), (end - step) * np.uint64(SLOTS)
        for slot in range(slots):
            while step < end and _slot(steps[step, 0], shape, slots) <= np.uint64(slot):
                step += np.uint64(1)
            directory[begin + np.uint64(slot)] = step


@compiled
def _slot(time: np.int64, shape: UInt64s, slots: np.uint64) -> np.uint64:
    """The slot of a time that is not before the base: the times are cut into 2^32 parts first."""
    part = min((np.uint64(time) - shape[1]) >> shape[2], np.uint64(0xFFFFFFFF))
    return np.uint64((part * slots) >> np.uint64(32))


@compiled
def look_up(  # noqa: PLR0917
    code: Int64s,
    at: Int64s,
    starts: UInt32s,
    directory: UInt32s,
    steps: Int64s,
    shape: UInt64s,
    out: Int64s,
    found: Bools,
) -> None:
    """Answer questions.

    Args:
        code: the entity of each question, counted from `shape[0]`; outside of `starts`: never seen.
        at: the time of each question.
        starts: where each entity's steps begin, and one more.
        directory: see `fill_directory`.
        steps: one row a step: the time, then what `shape` says, then the words that answer.
        shape: first code; base of the times; shift of the times; 1 where there is a ttl; the ttl; the column
            of `steps` with the event time of the winner; the first column of the answer.
        out: one row a word of the answer, one column a question; zero where there is no answer.
        found: whether there is an answer.
    """
    first, step = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    answer = shape[6]
    for begin in range(0, len(code), BLOCK):
        end = min(begin + BLOCK, len(code))
        size = end - begin
        _aim(
            code[begin:end],
            at[begin:end],
            starts,
            directory,
            shape,
            first[:size],
            step[:size],
            found[begin:end],
        )
        _settle(at[begin:end], steps, shape, first[:size], step[:size], found[begin:end])
        for w in range(out.shape[0]):
            line = out[w]
            for i in range(size):
                value = steps[step[i], answer + np.uint64(w)]
                line[begin + i] = value if found[begin + i] else 0


@compiled
def _aim(  # noqa: PLR0917
    code: Int64s,
    at: Int64s,
    starts: UInt32s,
    directory: UInt32s,
    shape: UInt64s,
    first: UInt64s,
    step: UInt64s,
    found: Bools,
) -> None:
    """The step that a question's slot names, and the first of its entity; not found where it has none."""
    known = np.uint64(len(starts) - 1)
    base = np.int64(shape[1])
    for i in range(len(code)):
        c = np.uint64(code[i]) - shape[0]
        here, after = np.uint64(0), np.uint64(0)
        if c < known and at[i] >= base:
            here, after = np.uint64(starts[c]), np.uint64(starts[c + np.uint64(1)])
        first[i], step[i], found[i] = 0, 0, False
        if here < after:
            first[i] = here
            slots = (after - here) * np.uint64(SLOTS)
            last = np.uint64(directory[here * np.uint64(SLOTS) + _slot(at[i], shape, slots)])
            found[i] = last > here
            step[i] = last - np.uint64(last > here)


@compiled
def _settle(  # noqa: PLR0917
    at: Int64s, steps: Int64s, shape: UInt64s, first: UInt64s, step: UInt64s, found: Bools
) -> None:
    """Go back from the last step of the slot to the last that is not after the question, and mind the ttl."""
    for i in range(len(at)):
        # One step back without a branch: half of the questions need it, which no predictor can guess.
        back = np.uint64((steps[step[i], 0] > at[i]) & (step[i] > first[i]))
        step[i] -= back
    one = np.uint64(1)
    for i in range(len(at)):
        here = step[i]
        if steps[here, 0] > at[i]:
            low, high = first[i], here
            while low < high:
                middle = (low + high) >> one
                if steps[middle, 0] <= at[i]:
                    low = middle + one
                else:
                    high = middle
            found[i] = found[i] and low > first[i]
            here = low - np.uint64(low > first[i])
            step[i] = here
        if shape[3] and found[i]:
            found[i] = np.uint64(at[i]) - np.uint64(steps[here, shape[5]]) <= shape[4]


@compiled
def fill_table(table: Int64s, numbers: Int32s, keys: Int64s) -> None:
    """Put distinct keys into an empty hash table, numbered as they stand; see `probe`."""
    mask = np.uint64(len(table) - 1)
    for i in range(len(keys)):
        place = _mix(keys[i]) & mask
        while numbers[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = keys[i]
        numbers[place] = i


@compiled
def probe(table: Int64s, numbers: Int32s, keys: Int64s, code: Int64s) -> None:
    """Look keys up in an open hash table (linear probing, a power of two long).

    Args:
        table: the keys; `numbers`: their numbers, -1 where a place is free.
        keys: the keys that are asked for.
        code: filled with their numbers; -1: not there.
    """
    mask = np.uint64(len(table) - 1)
    for i in range(len(keys)):
        place = _mix(keys[i]) & mask
        while numbers[place] >= 0 and table[place] != keys[i]:
            place = (place + np.uint64(1)) & mask
        code[i] = numbers[place]


@compiled
def _mix(key: np.int64) -> np.uint64:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): each bit of the key moves each bit of it."""
    x = np.uint64(key)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
