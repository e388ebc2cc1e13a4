"""The order of rows by entity and time, compiled: counted into place, then sorted within each entity.

Knows integers; it does not know what they mean. See `core.compiled`.

Rows mostly come in the order of their times, so an entity's rows are checked first, and sorted by insertion
when they are few, else merged: n log n at worst.
"""

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s

_FEW = 32


@compiled
def first_seen(keys: Int64s, low: int, table: Int64s, code: Int64s) -> None:
    """Number keys from 0 by their first appearance.

    Args:
        low: the least key; `table`: the number of each key from there on, -1 before it was seen.
        code: (n), written: the number of each key.
    """
    seen = 0
    for i in range(len(keys)):
        place = keys[i] - low
        if table[place] < 0:
            table[place] = seen
            seen += 1
        code[i] = table[place]


@compiled
def by_entity(code: Int64s, entities: int) -> tuple[Int64s, Int64s]:
    """Rows in the order of their entities, and where each entity begins in it.

    Codes out of [0, entities) are left out; the order within an entity is kept.
    """
    begin = np.zeros(entities + 1, np.int64)
    for entity in code:
        if 0 <= entity < entities:
            begin[entity + 1] += 1
    for i in range(entities):
        begin[i + 1] += begin[i]
    fill = begin[:-1].copy()
    order = np.empty(begin[entities], np.int64)
    for i in range(len(code)):
        entity = code[i]
        if 0 <= entity < entities:
            order[fill[entity]] = i
            fill[entity] += 1
    return order, begin


@compiled
def _before(keys: Int64s, one: int, two: int) -> bool:
    for k in range(keys.shape[1]):
        if keys[one, k] != keys[two, k]:
            return bool(keys[one, k] < keys[two, k])
    return one < two


@compiled
def _insert(keys: Int64s, rank: Int64s, low: int, high: int) -> None:
    for i in range(low + 1, high):
        moved, j = rank[i], i
        while j > low and _before(keys, moved, rank[j - 1]):
            rank[j] = rank[j - 1]
            j -= 1
        rank[j] = moved


@compiled
def _merge(keys: Int64s, rank: Int64s, other: Int64s, size: int) -> None:
    for low in range(0, size, _FEW):
        _insert(keys, rank, low, min(low + _FEW, size))
    width = _FEW
    while width < size:
        for low in range(0, size, 2 * width):
            middle, high = min(low + width, size), min(low + 2 * width, size)
            i, j = low, middle
            for k in range(low, high):
                if i < middle and (j >= high or _before(keys, rank[i], rank[j])):
                    other[k] = rank[i]
                    i += 1
                else:
                    other[k] = rank[j]
                    j += 1
        rank[:size] = other[:size]
        width *= 2


@compiled
def sort_within(times: Int64s, ties: Int64s, order: Int64s, begin: Int64s) -> None:
    """Sort the rows of each entity by their keys, equal ones by their position.

    Args:
        times: (n): the first key of each row; `ties`: (n, k): the further ones.
        order: rows by entity, rewritten; `begin`: where each of the entities to sort begins.
    """
    widest = 0
    for e in range(len(begin) - 1):
        widest = max(widest, begin[e + 1] - begin[e])
    depth = ties.shape[1] + 1
    keys = np.empty((widest, depth), np.int64)
    rows = np.empty(widest, np.int64)
    rank, other = np.empty(widest, np.int64), np.empty(widest, np.int64)
    for e in range(len(begin) - 1):
        first = begin[e]
        size = begin[e + 1] - first
        rising = True
        for i in range(size):
            row = order[first + i]
            rows[i], rank[i] = row, i
            keys[i, 0] = times[row]
            for k in range(1, depth):
                keys[i, k] = ties[row, k - 1]
            rising = rising and (i == 0 or _before(keys, i - 1, i))
        if not rising:
            _merge(keys, rank, other, size)
            for i in range(size):
                order[first + i] = rows[rank[i]]


def order_of(code: Int64s, keys: list[Int64s]) -> Int64s:
    """Positions of rows by entity, then by keys, then as they stand; without negative entities.

    Args:
        code: the entity of each row.
        keys: at least one, from the first to the last to compare by.
    """
    order, begin = by_entity(code, int(code.max(initial=-1)) + 1)
    ties = np.column_stack(keys[1:]) if len(keys) > 1 else np.empty((len(code), 0), np.int64)
    threads = cpu_count() or 1
    cuts = np.searchsorted(begin, np.linspace(0, len(order), threads + 1).astype(np.int64))
    with ThreadPoolExecutor(threads) as pool:
        list(
            pool.map(
                lambda i: sort_within(keys[0], ties, order, begin[cuts[i] : cuts[i + 1] + 1]), range(threads)
            )
        )
    return order
