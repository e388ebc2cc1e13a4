"""The windows of one part of the entities: running totals and blocks of their rows, reduced by kernels.

Knows how values become numbers for the kernels and back; it does not know expressions or threads.
"""

from dataclasses import dataclass

import numpy as np

from rayplat.features.aggregates import distinct, quantile
from rayplat.features.instants import Int64s
from rayplat.features.questions import Bools
from rayplat.features.windows import kernels
from rayplat.features.windows.digits import Doubles
from rayplat.features.windows.streams import Numbers, Span, Stream, span
from rayplat.features.windows.totals import Totals

_NO_TOTALS = np.zeros((1, 0), np.int64)
_NONE = np.empty(0, np.int64)
_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions of a part, with the rows that are in the bounds of each window.

    Attributes:
        spans: the windows.
        low, high: (q, w): positions among the rows of the part; `sure`: (q), see `kernels.bounds`.
        known: when each row is known; `block_known`: when all of a block are.
    """

    spans: tuple[Span, ...]
    at: Int64s
    low: Int64s
    high: Int64s
    sure: Int64s
    known: Int64s
    block_known: Int64s


def locate(  # noqa: PLR0917 - one line of arrays
    start: Int64s, event: Int64s, known: Int64s, code: Int64s, at: Int64s, spans: tuple[Span, ...], late: bool
) -> Asked:
    """Find the rows of the windows.

    Args:
        start: where each entity of the part begins in its rows, and their end.
        event, known: of these rows, us.
        code: the entity of each question, from 0.
        late: whether some row is known only after its event.
    """
    shape = len(at), len(spans)
    low, high, sure = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(len(at), np.int64)
    settled = kernels.settled_by(start, known) if late else _NONE
    every = np.array([every for every, _ in spans])
    length = np.array([length for _, length in spans])
    kernels.bounds(start, event, settled, code, at, length, every, low, high, sure)
    whole = len(known) // kernels.BLOCK
    blocks = known[: whole * kernels.BLOCK].reshape(whole, kernels.BLOCK).max(axis=1) if late else _NONE
    return Asked(spans, at, low, high, sure, known, blocks)


Found = dict[str, tuple[Numbers, Bools | None]]
"""By feature: a number a question, and where there is one (None: everywhere)."""

_COLUMN = {"min": 1, "max": 2, "first": 3, "last": 4}


def newest(asked: Asked, rows: Int64s) -> Int64s:
    """The position of the newest known row in each window, -1 where there is none.

    Args:
        rows: the positions of the part's rows.
    """
    found, _ = _reduced(asked, _NO_TOTALS, (_NONE, _NONE, _NONE))
    return np.append(rows, -1)[found[:, :, 4]]


def reduce(asked: Asked, stream: Stream, rows: Int64s, width: int) -> Found:
    """All features of a stream: as numbers; of `first` and `last` positions, of extremes of texts too.

    Args:
        rows: the positions of the part's rows among those of the stream, by entity and time.
        width: of digits: see `totals.digit_width`.
    """
    kinds = frozenset(feature.kind for feature in stream.features)
    numbers = stream.numbers[rows]
    totals = Totals(numbers, kinds, width)
    levels = blocks(*keys(numbers)) if kinds & {"min", "max"} else (_NONE, _NONE, _NONE)
    found, sums = _reduced(asked, totals.prefix, levels)
    results: Found = {}
    for feature in stream.features:
        w = asked.spans.index(span(feature))
        count, kind = found[:, w, 0], feature.kind
        some = count > 0
        if kind in ("min", "max"):
            extremes = found[:, w, _COLUMN[kind]]
            results[feature.name] = from_keys(extremes) if numbers.dtype == np.float64 else extremes, some
        elif kind in ("first", "last"):
            results[feature.name] = np.append(rows, 0)[found[:, w, _COLUMN[kind]]], some
        elif kind in ("sum", "mean", "stddev"):
            results[feature.name] = totals.of(kind, sums[:, w], count)
        elif kind == "count":
            results[feature.name] = count, None
        elif kind == "quantile":
            picked = _picked(asked, w, quantile_keys(numbers), 0.5 if feature.q is None else feature.q)
            values = quantile.bin_values(np.where(picked[:, 0] > 0, picked[:, 1], 0))
            results[feature.name] = np.where(picked[:, 0] > 0, values, np.nan), some
        else:
            results[feature.name] = _estimates(_picked(asked, w, stream.hashed[rows], -1.0)), None
    return results


def _reduced(asked: Asked, prefix: Int64s, blocks: tuple[Int64s, Int64s, Int64s]) -> tuple[Int64s, Int64s]:
    found = np.empty((*asked.low.shape, 5), np.int64)
    sums = np.empty((*asked.low.shape, prefix.shape[1]), np.int64)
    known, block_known = asked.known, asked.block_known
    kernels.reduce(
        asked.low, asked.high, asked.sure, asked.at, known, block_known, prefix, *blocks, found, sums
    )
    return found, sums


def _picked(asked: Asked, w: int, sorted_by: Int64s, rank: float) -> Int64s:
    out = np.empty((len(asked.at), 2), np.int64)
    low, high = asked.low[:, w].copy(), asked.high[:, w].copy()
    kernels.select(low, high, asked.at, asked.known, sorted_by, rank, distinct.K, out)
    return out


def _estimates(picked: Int64s) -> Int64s:
    kept = picked[:, 0].copy()
    for i in np.flatnonzero(kept == distinct.K).tolist():
        kept[i] = distinct.estimate(distinct.K, int(picked[i, 1]) + 2**63)
    return kept


def quantile_keys(numbers: Numbers) -> Int64s:
    """The bins of values; NaN has none."""
    wide = numbers.astype(np.float64)
    return np.where(np.isnan(wide), _GREATEST, quantile.bins(wide))


def keys(numbers: Numbers) -> tuple[Int64s, Int64s]:
    """Values as integers in their order, to find the least and the greatest by; NaN is neither."""
    if numbers.dtype != np.float64:
        return numbers, numbers
    word = np.ascontiguousarray(numbers).view(np.int64)
    ordered = word ^ ((word >> 63) & _GREATEST)
    nan = np.isnan(numbers)
    if not nan.any():
        return ordered, ordered
    return np.where(nan, _GREATEST, ordered), np.where(nan, _LEAST, ordered)


def from_keys(found: Int64s) -> Doubles:
    """The doubles of `keys`; NaN where no number was found."""
    numbers = (found ^ ((found >> 63) & _GREATEST)).view(np.float64)
    return np.where(np.isnan(numbers), np.nan, numbers)


def blocks(lows: Int64s, highs: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Rows, their blocks, blocks of blocks and so on, and where each level begins."""
    least, greatest, levels = [lows], [highs], [0]
    while len(least[-1]) >= 2 * kernels.BLOCK:
        levels.append(levels[-1] + len(least[-1]))
        whole = len(least[-1]) // kernels.BLOCK
        taken = whole * kernels.BLOCK
        least.append(least[-1][:taken].reshape(whole, kernels.BLOCK).min(axis=1))
        greatest.append(greatest[-1][:taken].reshape(whole, kernels.BLOCK).max(axis=1))
    return np.concatenate(least), np.concatenate(greatest), np.array(levels)
