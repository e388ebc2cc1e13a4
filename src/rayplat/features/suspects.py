"""Single features that know the label too well: the area under the ROC curve of each alone.

Knows ranks; it does not know what a feature is made of, nor what is done about it.

The area is the Mann-Whitney statistic over all pairs of a positive and a negative row, ties counted half
(Hanley and McNeil 1982, Radiology 143, p. 29), exact. The better direction counts. Missing values are a
value of their own, least or greatest, whichever tells more. A feature of few distinct values is also
judged with its values in the order of their share of positives: the numbers of a code mean nothing.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

OVER = 0.98
"""From which area on a feature is suspected."""

MOST_ROWS = 400_000
"""More rows than these are sampled, every n-th in their order."""

_CODES = 20
_ROWS_A_CODE = 50

Float32s = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Suspect:
    """A feature that alone nearly tells the label.

    Attributes:
        feature: the full name.
        auc: its area under the ROC curve, 0.5 to 1.
        rows: on how many rows.
        reads: the columns that it is made of, as `table.column`.
    """

    feature: str
    auc: float
    rows: int
    reads: tuple[str, ...] = ()


def suspects(
    values: Sequence[tuple[str, Float32s]], label: Bools, over: float = OVER, most_rows: int = MOST_ROWS
) -> list[Suspect]:
    """The features whose own area is `over` or more, the best first.

    Args:
        values: features by name, NaN where missing.
        label: the outcome of each row.
        over: the least area.
        most_rows: see `MOST_ROWS`.
    """
    step = -(-len(label) // most_rows) if len(label) else 1
    taken = np.ascontiguousarray(label[::step])

    def judge(one: tuple[str, Float32s]) -> Suspect:
        return Suspect(one[0], single_auc(one[1][::step], taken), len(taken))

    # NumPy lets go of the lock while it sorts.
    with ThreadPoolExecutor(2) as pool:
        found = [suspect for suspect in pool.map(judge, values) if suspect.auc >= over]
    return sorted(found, key=lambda suspect: (-suspect.auc, suspect.feature))


def single_auc(values: Float32s, label: Bools) -> float:
    """The area of one feature, 0.5 to 1; 0.5 where there is one class, or one value.

    Args:
        values: the feature, NaN where missing.
        label: the outcome of each row.
    """
    positive = int(label.sum())
    pairs = positive * (len(label) - positive)
    if pairs == 0:
        return 0.5
    missing = np.isnan(values)
    lost = int(missing.sum())
    lost_positive = int((label & missing).sum())
    if lost:
        values, label = values[~missing], label[~missing]
    among, codes = _wins(values, label)
    lost_negative = lost - lost_positive
    have_positive, have_negative = positive - lost_positive, len(label) - (positive - lost_positive)
    ties = lost_positive * lost_negative / 2
    wins = [among + ties + have_positive * lost_negative, among + ties + lost_positive * have_negative]
    if codes is not None:
        wins.append(_by_share(*codes, lost_positive, lost_negative))
    return max(max(won, pairs - won) for won in wins) / pairs


def _wins(
    values: Float32s, label: Bools
) -> tuple[float, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None]:
    """Pairs in which the positive row is greater, ties half; and positives and negatives by value, if few."""
    if len(values) == 0:
        return 0.0, None
    # One sort of integers that carry the label is several times faster than the ranks of floats.
    keys = (_ordered(values) << np.uint64(1)) | label
    keys.sort()
    sorted_label = (keys & np.uint64(1)).astype(np.int64)
    value = keys >> np.uint64(1)
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True))
    positive = np.diff(np.cumsum(sorted_label)[last], prepend=0)
    negative = np.diff(last + 1, prepend=0) - positive
    before = np.cumsum(negative) - negative
    # Whole numbers up to 2^53 are exact as floats; more pairs than that are rounded once a value.
    won = float((positive * (2 * before + negative)).sum()) / 2
    few = len(last) <= min(_CODES, len(values) // _ROWS_A_CODE)
    return won, (positive, negative) if few else None


def _ordered(values: Float32s) -> npt.NDArray[np.uint64]:
    """Integers in the order of floats (IEEE 754, 5.10, without NaN); 0.0 and -0.0 are one value."""
    raw = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)
    flipped = np.where(raw >> 31, ~raw, raw | np.uint32(1 << 31))
    return flipped.astype(np.uint64)


def _by_share(
    positive: npt.NDArray[np.int64], negative: npt.NDArray[np.int64], lost_positive: int, lost_negative: int
) -> float:
    """Pairs won when values are put in the order of their share of positives; missing is a value."""
    if lost_positive + lost_negative:
        positive, negative = np.append(positive, lost_positive), np.append(negative, lost_negative)
    order = np.argsort(positive / (positive + negative), kind="stable")
    positive, negative = positive[order], negative[order]
    before = np.cumsum(negative) - negative
    return float((positive * (2 * before + negative)).sum()) / 2
