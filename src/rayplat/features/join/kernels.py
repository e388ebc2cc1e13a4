"""The loops of the join, as machine code: sweeping rows and questions by time, and picking values.

Knows arrays of numbers only; it does not know where they come from. Times are microseconds, an entity is
its code (negative: nobody asks about it), a row is its position in the order in which the source is read.
"""

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s
from rayplat.features.join.arrays import Values

_END = np.iinfo(np.int64).max


@compiled
def _rank(one: int, other: int) -> int:
    """1, 0 or -1: whether `one` is greater than, equal to or less than `other`."""
    return int(one > other) - int(one < other)


@compiled
def _of_equals(row: int, place: int, offset: Int64s, partition: Int64s, best: Int64s) -> int:
    """Which of two rows with equal times is the later one, by offset, partition and position."""
    if len(offset):
        rank = _rank(offset[row], best[3])
        if rank == 0:
            rank = _rank(partition[row], best[4])
        if rank != 0:
            return rank
    return _rank(place, best[0])


@compiled
def _answered(
    begin: int, until: int, asked: tuple[Int64s, Values], found: tuple[Int64s, Int64s], held: Int64s
) -> int:
    """Answer the questions before `until` (all of them at the end of time) with the best rows so far."""
    asked_at, asked_code = asked
    answer, answer_event = found
    while begin < len(asked_at) and (asked_at[begin] < until or until == _END):
        who = asked_code[begin]
        if who >= 0:
            answer[begin] = held[who, 0]
            answer_event[begin] = held[who, 1]
        begin += 1
    return begin


@compiled
def sweep(  # noqa: PLR0917 - compiled: one loop, no keywords
    walk: Int64s,
    code: Values,
    event: Int64s,
    known: Int64s,
    offset: Int64s,
    partition: Int64s,
    position: Int64s,
    first: int,
    held: Int64s,
    asked: tuple[Int64s, Values],
    found: tuple[Int64s, Int64s],
    begin: int,
    horizon: int,
) -> tuple[int, bool]:
    """Walk rows and questions together by time; the best row of each entity so far answers.

    Args:
        walk: the rows in the order in which they become visible; empty: as they stand.
        code, event, known: of each row; no `known`: never after the event.
        offset, partition: decide between equal times; position: where not one after another from `first`.
        held: of each entity's best row position (-1: none), event time, and as far as given known time,
            offset and partition; shape (entities, 2 to 5), so that they lie together.
        asked: time and entity of each question, rising by time.
        found: for each question the position of the row that answers (-1) and its event time.
        begin: the first question without an answer; horizon: questions from there on wait for rows.

    Returns:
        The first question that waits, and whether two rows of an entity had equal times.
    """
    asked_at = asked[0]
    knows, ties, placed, walks = len(known) > 0, len(offset) > 0, len(position) > 0, len(walk) > 0
    next_at = asked_at[begin] if begin < len(asked_at) else _END
    tied = False
    for step in range(len(walk) if walks else len(code)):
        row = walk[step] if walks else step
        time, told = event[row], known[row] if knows else event[row]
        visible = max(time, told)
        if next_at < visible:
            begin = _answered(begin, visible, asked, found, held)
            next_at = asked_at[begin] if begin < len(asked_at) else _END
        who = code[row]
        if who < 0 or time < held[who, 1]:
            continue
        place = position[row] if placed else first + row
        if time == held[who, 1] and held[who, 0] >= 0:
            rank = _rank(told, held[who, 2]) if knows else 0
            if rank == 0:
                tied = True
                rank = _of_equals(row, place, offset, partition, held[who])
            if rank < 0:
                continue
        held[who, 0], held[who, 1] = place, time
        if knows:
            held[who, 2] = told
        if ties:
            held[who, 3], held[who, 4] = offset[row], partition[row]
    return _answered(begin, horizon, asked, found, held), tied


@compiled
def march(  # noqa: C901, PLR0912, PLR0917 - compiled: one loop, no keywords
    code: Values,
    event: Int64s,
    known: Int64s,
    first: int,
    held: Int64s,
    asked: tuple[Int64s, Values],
    found: tuple[Int64s, Int64s],
    begin: int,
    horizon: int,
) -> tuple[int, bool]:
    """`sweep` for rows that stand in the order in which they become visible, and that position tells apart.

    Most tables are walked so from end to end, which is why there is this loop without the other's cases.
    """
    asked_at, asked_code = asked
    answer, answer_event = found
    knows, tied, row, rows, last = len(known) > 0, False, 0, len(code), len(asked_at)
    while True:
        time = asked_at[begin] if begin < last else _END
        if knows:
            while row < rows:
                event_time, told = event[row], known[row]
                if max(event_time, told) > time:
                    break
                who = code[row]
                if who >= 0:
                    before = held[who, 1]
                    if event_time > before or held[who, 0] < 0:
                        held[who, 0], held[who, 1], held[who, 2] = first + row, event_time, told
                    elif event_time == before and told >= held[who, 2]:
                        later = told > held[who, 2]
                        tied |= not later
                        if later or first + row > held[who, 0]:
                            held[who, 0], held[who, 2] = first + row, told
                row += 1
        else:
            while row < rows and event[row] <= time:
                who = code[row]
                if who >= 0:
                    equal = held[who, 1] == event[row] and held[who, 0] >= 0
                    tied |= equal
                    if not equal or first + row > held[who, 0]:
                        held[who, 0], held[who, 1] = first + row, event[row]
                row += 1
        if begin >= last or (time >= horizon and horizon != _END):
            return begin, tied
        who = asked_code[begin]
        if who >= 0:
            answer[begin] = held[who, 0]
            answer_event[begin] = held[who, 1]
        begin += 1


@compiled
def follow(  # noqa: PLR0917 - compiled: no keywords
    code: Values,
    event: Int64s,
    position: Int64s,
    first: int,
    held: Values,
    asked: tuple[Int64s, Values],
    answer: Int64s,
    begin: int,
    horizon: int,
) -> int:
    """`march` for rows each of which answers rather than those before it, and nobody asks when it happened.

    Then an entity's best row is its last one, and what is held of it is a quarter as large.

    Args:
        position: where not one after another from `first`.
        held: of each entity the position of its last row (-1: none), and at the end a place for rows that
            nobody asks about.

    Returns:
        The first question that waits.
    """
    asked_at, asked_code = asked
    row, rows, last, nobody = 0, len(code), len(asked_at), len(held) - 1
    placed = len(position) > 0
    while True:
        time = asked_at[begin] if begin < last else _END
        while row < rows and event[row] <= time:
            who = code[row]
            held[who if who >= 0 else nobody] = position[row] if placed else first + row
            row += 1
        if begin >= last or (time >= horizon and horizon != _END):
            return begin
        who = asked_code[begin]
        if who >= 0:
            answer[begin] = held[who]
        begin += 1


@compiled
def rising(event: Int64s, known: Int64s) -> tuple[bool, int, int]:
    """Whether rows stand in the order in which they become visible; and the first and last such time."""
    knows = len(known) > 0
    before, least, sorted_ = np.iinfo(np.int64).min, _END, True
    greatest = before
    for row in range(len(event)):
        visible = max(event[row], known[row]) if knows else event[row]
        sorted_ &= visible >= before
        before = visible
        least = min(least, visible)
        greatest = max(greatest, visible)
    return sorted_, least, greatest


@compiled
def is_rising(at: Int64s) -> bool:
    """Whether times never fall."""
    for step in range(1, len(at)):  # noqa: SIM110 - compiled: `all` is slower
        if at[step] < at[step - 1]:
            return False
    return True


@compiled
def young(  # noqa: PLR0917 - compiled: no keywords
    row: Int64s, event: Int64s, at: Int64s, least: int, ttl: int, out: Int64s
) -> None:
    """The rows at most `ttl` older than their questions; -1 for the others. No time is below `least`."""
    for index in range(len(row)):
        oldest = at[index] - ttl if at[index] >= least + ttl else least
        out[index] = row[index] if event[index] >= oldest else -1


@compiled
def is_climbing(values: Int64s) -> bool:
    """Whether every value is greater than the one before it."""
    climbs = True
    # Without a way out the loop compares several values at once, and most columns are in order.
    for step in range(1, len(values)):
        climbs &= values[step] > values[step - 1]
    return climbs


@compiled
def is_constant(values: Int64s) -> bool:
    """Whether all values are equal."""
    alike = True
    for step in range(1, len(values)):
        alike &= values[step] == values[0]
    return alike


@compiled
def of_block(rows: Int64s, shift: int, counts: Int64s) -> None:
    """How many answers lie in each block of 2^shift rows.

    Args:
        rows: the position that answers each question; -1: none.
        counts: zeros; becomes the number by block.
    """
    for row in rows:
        if row >= 0:
            counts[row >> shift] += 1


@compiled
def by_block(  # noqa: PLR0917 - compiled: no keywords
    rows: Int64s, order: Int64s, shift: int, place: Int64s, out: Int64s, found: Values
) -> None:
    """Sort answers by the block of 2^shift rows in which they lie, in linear time.

    Args:
        rows: the position that answers each question in sweep order; -1: none.
        order: which asking row each of these questions is; below 2^(63 - shift).
        place: where the answers of each block begin in `out`; it is used up.
        out: becomes the answers, block by block: the asking row times 2^shift plus the row in its block.
        found: by asking row, becomes whether there is an answer.
    """
    mask = (1 << shift) - 1
    for index in range(len(rows)):
        row = rows[index]
        found[order[index]] = row >= 0
        if row >= 0:
            block = row >> shift
            out[place[block]] = (order[index] << shift) | (row & mask)
            place[block] += 1


@compiled
def pick(  # noqa: PLR0917 - compiled: no keywords
    values: Values, first: int, start: Int64s, picks: Int64s, shift: int, out: Values
) -> None:
    """Give each question the value of its row, for rows that lie in `values`, which begin at `first`.

    Args:
        values: of consecutive rows; `first`: the position of the first one.
        start: where the answers of each block begin; `picks`: what `by_block` made.
        out: the values by asking row.
    """
    count, mask = len(values), (1 << shift) - 1
    for block in range(first >> shift, ((first + count - 1) >> shift) + 1):
        base = (block << shift) - first
        for index in range(start[block], start[block + 1]):
            place = base + (picks[index] & mask)
            if 0 <= place < count:
                out[picks[index] >> shift] = values[place]


@compiled
def pick_told(  # noqa: PLR0917 - compiled: no keywords
    values: Values,
    bitmap: Values,
    skip: int,
    first: int,
    start: Int64s,
    picks: Int64s,
    shift: int,
    out: Values,
    told: Values,
) -> None:
    """`pick` of values some of which are null.

    Args:
        bitmap: Arrow's bits, set where a value is not null; `skip`: those before the first value.
        told: becomes, by asking row, whether its value is not null.
    """
    count, mask = len(values), (1 << shift) - 1
    for block in range(first >> shift, ((first + count - 1) >> shift) + 1):
        base = (block << shift) - first
        for index in range(start[block], start[block + 1]):
            place = base + (picks[index] & mask)
            if 0 <= place < count:
                slot, bit = picks[index] >> shift, skip + place
                out[slot] = values[place]
                told[slot] = (bitmap[bit >> 3] >> (bit & 7)) & 1


@compiled
def improve(  # noqa: C901, PLR0912, PLR0917 - compiled: one loop, no keywords
    answer: Int64s,
    answer_event: Int64s,
    first: int,
    known: Int64s,
    offset: Int64s,
    partition: Int64s,
    position: Int64s,
    best: tuple[Int64s, Int64s, Int64s, Int64s, Int64s],
) -> bool:
    """Let the answers of one stretch of rows replace older answers of the questions.

    Args:
        answer: what `sweep` found in the stretch, as numbers of its rows; `answer_event`: their times.
        first, known, offset, partition, position: of the stretch, as for `sweep`.
        best: event, known, offset, partition and position of the best row of each question so far.

    Returns:
        Whether rows of both had equal times.
    """
    best_event, best_known, best_offset, best_partition, best_place = best
    knows, ties, placed, tied = len(known) > 0, len(offset) > 0, len(position) > 0, False
    for index in range(len(answer)):
        row = answer[index]
        if row < 0:
            continue
        time = answer_event[index]
        told = known[row] if knows else time
        place = position[row] if placed else first + row
        if best_place[index] >= 0:
            if time < best_event[index]:
                continue
            if time == best_event[index]:
                if told < best_known[index]:
                    continue
                if told == best_known[index]:
                    tied = True
                    if ties and offset[row] != best_offset[index]:
                        if offset[row] < best_offset[index]:
                            continue
                    elif ties and partition[row] != best_partition[index]:
                        if partition[row] < best_partition[index]:
                            continue
                    elif place < best_place[index]:
                        continue
        best_event[index] = time
        best_known[index] = told
        if ties:
            best_offset[index] = offset[row]
            best_partition[index] = partition[row]
        best_place[index] = place
    return tied
