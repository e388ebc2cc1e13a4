"""Rows moved to where their entities' rows stand together, compiled: first to blocks, then within a block.

Knows codes, times and positions of rows; it does not know values. See `core.compiled`.

A block is a stretch of neighbouring entities whose rows a core's cache holds. Moving rows to a few hundred
blocks writes a few hundred stretches from front to back, and sorting a block stays in the cache.
"""

import numpy as np
import numpy.typing as npt

from rayplat.core.compiled import compiled
from rayplat.features.instants import Int64s

Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.uint8]

_CODE = 32
_TILE = 64
_ROW_MASK = (1 << _CODE) - 1


@compiled
def count(  # noqa: PLR0917 - compiled: no keywords
    code: Codes, event: Int64s, wanted: Flags, since: int, until: int, counts: Codes
) -> None:
    """Count the rows of each entity; rows that matter to nobody lose their code.

    Args:
        code: (n): the entity of each row; becomes -1 where the row does not matter.
        wanted: by entity, whether somebody asks about it.
        since, until: rows before and after do not matter.
        counts: by entity, added to.
    """
    for i in range(len(code)):
        entity = code[i]
        if entity >= 0:
            if wanted[entity] and since <= event[i] <= until:
                counts[entity] += 1
            else:
                code[i] = -1


@compiled
def scatter(  # noqa: PLR0917 - compiled: no keywords
    code: Codes, event: Int64s, block: Codes, fill: Int64s, first: int, moved: Int64s
) -> None:
    """Move rows to their blocks; within a block they keep their order.

    Args:
        code: as `count` left it.
        block: by entity, its block; `fill`: by block, where its next row goes.
        first: the position of the first row.
        moved: (all rows that matter, 2), written: the time of each row, and its entity and position.
    """
    for i in range(len(code)):
        entity = code[i]
        if entity >= 0:
            place = fill[block[entity]]
            fill[block[entity]] = place + 1
            moved[place, 0] = event[i]
            moved[place, 1] = (np.int64(entity) << _CODE) | (first + i)


@compiled
def settle(moved: Int64s, start: Int64s, first: int, event: Int64s, row: Int64s) -> tuple[bool, bool]:
    """Put the rows of a block by entity; within an entity they keep their order.

    Args:
        moved: the rows of the block, as `scatter` left them.
        start: where the rows of each entity begin, from 0, and the end; `first`: the first entity.
        event, row: (n), written: time and position.

    Returns:
        whether no time falls within an entity, and whether some are equal.
    """
    fill = start[:-1].copy()
    for i in range(len(moved)):
        entity = (moved[i, 1] >> _CODE) - first
        place = fill[entity]
        fill[entity] = place + 1
        event[place] = moved[i, 0]
        row[place] = moved[i, 1] & _ROW_MASK
    rising, equal = True, False
    for entity in range(len(start) - 1):
        for i in range(start[entity] + 1, start[entity + 1]):
            rising = rising and event[i - 1] <= event[i]
            equal = equal or event[i - 1] == event[i]
    return rising, equal


@compiled
def spread(  # noqa: PLR0917 - compiled: no keywords
    found: Int64s, some: Flags, place: Int64s, columns: Int64s, present: Flags, begin: int
) -> None:
    """Turn answers that stand question by question into columns, in the order in which they were asked.

    Args:
        found, some: (p, f): the answers, and where there is one.
        place: the answer of each question.
        columns, present: (f, q), written from question `begin` on.
    """
    for tile in range(0, len(place), _TILE):
        # A tile's answers are in the cache after the first feature; each column is written front to back.
        end = min(tile + _TILE, len(place))
        for feature in range(found.shape[1]):
            for i in range(tile, end):
                columns[feature, begin + i] = found[place[i], feature]
            for i in range(tile, end):
                present[feature, begin + i] = some[place[i], feature]
