"""Quantiles: a rank is never further off than the bound, whatever the order and however merged."""

import numpy as np
import pytest

from rayplat.data.profile.quantiles import HELD, Quantiles

SEED = 11
ROWS = 400_000


def rank_error(found: Quantiles, numbers: np.ndarray) -> float:
    ranks = np.linspace(0, 1, 1001)
    ordered = np.sort(numbers)
    values = found.at(ranks.tolist())
    low, high = (np.searchsorted(ordered, values, side=side) / len(ordered) for side in ("left", "right"))
    return float(np.maximum(np.maximum(low - ranks, ranks - high), 0).max())


@pytest.mark.parametrize("order", ["rising", "falling", "zigzag", "shuffled", "few"])
@pytest.mark.parametrize("parts", [1, 7])
def test_a_rank_is_within_the_bound(order: str, parts: int) -> None:
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    plain = np.arange(ROWS, dtype=np.float64)
    numbers = {
        "rising": plain,
        "falling": plain[::-1],
        "zigzag": np.where(plain % 2 == 0, plain, -plain),
        "shuffled": rng.permutation(plain),
        "few": rng.integers(0, 5, ROWS).astype(np.float64),
    }[order]
    total = Quantiles()
    for part in np.array_split(numbers, parts):
        sketch = Quantiles()
        for batch in np.array_split(part, 13):
            sketch.update(batch)
        total.merge(sketch)
    assert total.count == ROWS, "no weight is lost"
    halved = np.log2(ROWS / HELD) + 1
    assert rank_error(total, numbers) <= halved / HELD + 1 / ROWS


def test_what_was_sorted_is_sorted_again_after_more_came() -> None:
    found = Quantiles()
    found.update(np.array([1.0, 2.0, 3.0]))
    assert found.at([0.5]) == [2.0]
    found.update(np.array([10.0, 11.0, 12.0, 13.0]), level=1)
    assert found.at([0.5, 1.0]) == [11.0, 13.0]
    assert found.shares([3.0]) == pytest.approx([2 / 11, 9 / 11])
