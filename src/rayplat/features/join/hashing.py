"""Hash tables over integers and texts, as machine code: which number a key has.

Knows open addressing with linear probing over numbered keys; it does not know columns.
"""

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s
from rayplat.features.join.arrays import Bools, Values


@compiled
def shifted(keys: Values, low: int, span: int, out: Values) -> None:
    """Codes of integers whose code is their distance from `low`; -1 outside."""
    for row in range(len(keys)):
        place = np.int64(keys[row]) - low
        out[row] = place if 0 <= place < span else -1


@compiled
def number(keys: Int64s, null: Bools, slots: Values, kept: Int64s, out: Values) -> int:
    """Number distinct integers by their first appearance.

    Args:
        keys: the integers; `null`: where there is none (-1).
        slots: the table, a power of two long and at least twice as long as `keys`, filled with -1.
        kept: becomes the distinct integers.
        out: becomes the number of each key.

    Returns:
        How many distinct ones there are.
    """
    mask = np.uint64(len(slots) - 1)
    count = 0
    for row in range(len(keys)):
        if null[row]:
            out[row] = -1
            continue
        mixed = np.uint64(keys[row]) * np.uint64(0x9E3779B97F4A7C15)
        place = (mixed ^ (mixed >> np.uint64(32))) & mask
        while slots[place] >= 0 and kept[slots[place]] != keys[row]:
            place = (place + np.uint64(1)) & mask
        if slots[place] < 0:
            slots[place] = count
            kept[count] = keys[row]
            count += 1
        out[row] = slots[place]
    return count


@compiled
def look_up(keys: Int64s, slots: Values, kept: Int64s, out: Values) -> None:
    """The number of each integer in a table that `number` has filled; -1 where it is not there."""
    mask = np.uint64(len(slots) - 1)
    for row in range(len(keys)):
        mixed = np.uint64(keys[row]) * np.uint64(0x9E3779B97F4A7C15)
        place = (mixed ^ (mixed >> np.uint64(32))) & mask
        while slots[place] >= 0 and kept[slots[place]] != keys[row]:
            place = (place + np.uint64(1)) & mask
        out[row] = slots[place]


@compiled
def number_texts(  # noqa: PLR0917 - compiled: one loop, no keywords
    ends: Int64s,
    data: Values,
    null: Bools,
    slots: Values,
    kept: Int64s,
    kept_data: Values,
    out: Values,
    add: bool,
) -> int:
    """Number distinct texts by their first appearance, or look them up.

    Args:
        ends: where each text begins in `data`, and where the last one ends; shape (texts + 1,).
        data: UTF-8 bytes.
        null: where there is no text (-1).
        slots: the table, as for `number`.
        kept: begin and end, in `kept_data`, of each numbered text, flat.
        kept_data: the bytes of the numbered texts; `data` itself while texts are numbered.
        out: becomes the number of each text.
        add: whether new texts get a number; else they get -1.

    Returns:
        How many new ones there are.
    """
    mask = np.uint64(len(slots) - 1)
    count = 0
    for row in range(len(ends) - 1):
        out[row] = -1
        if null[row]:
            continue
        begin, end = ends[row], ends[row + 1]
        mixed = np.uint64(0xCBF29CE484222325)
        for at in range(begin, end):
            mixed = (mixed ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
        place = (mixed ^ (mixed >> np.uint64(32))) & mask
        while slots[place] >= 0:
            numbered = slots[place]
            other = kept[2 * numbered]
            same = kept[2 * numbered + 1] - other == end - begin
            for step in range(end - begin):
                if not same:
                    break
                same = kept_data[other + step] == data[begin + step]
            if same:
                break
            place = (place + np.uint64(1)) & mask
        if slots[place] < 0 and add:
            slots[place] = count
            kept[2 * count] = begin
            kept[2 * count + 1] = end
            count += 1
        out[row] = slots[place]
    return count
