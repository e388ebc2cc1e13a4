"""The digits of the kernels round to the same bits as Python's integers, compiled and as plain Python."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings

from rayplat.features.aggregates import exact
from rayplat.features.windows import digits
from tests.features.aggregates.nasty import EDGES, FINITE, same


def reduced(values, width, call):
    """The sum, the mean and the standard deviation of values, by the kernels."""
    numbers = np.array(values)
    mantissa, exponent = np.empty(len(values), np.int64), np.empty(len(values), np.int64)
    base, top = call(digits.split)(numbers, mantissa, exponent)
    first, second = -(-max(top - base, 1) // width), -(-2 * max(top - base, 1) // width)
    prefix = np.zeros((len(values) + 1, first + second), np.int64)
    call(digits.running)(mantissa, exponent, base, width, first, second, prefix)
    out = np.empty(3)
    sums, n = prefix[-1:], np.array([len(values)])
    call(digits.rounded)(np.ascontiguousarray(sums[:, :first]), width, base, n // n, out[:1])
    call(digits.rounded)(np.ascontiguousarray(sums[:, :first]), width, base, n, out[1:2])
    call(digits.deviation)(sums, first, width, base, n, out[2:])
    return out.tolist()


def wanted(values):
    total, squares = exact.exact_sums(values, squares=True)
    deviation = exact.stddev(len(values), total, squares) if len(values) > 1 else 0.0
    return [exact.rounded(*total), exact.rounded(*total, len(values)), deviation]


@settings(max_examples=600, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=12), st.sampled_from([20, 31, 52, 55]))
@example(EDGES, 52)
@example([1.0, 2.0**-53], 52)
@example([1.0 + 2.0**-52, 2.0**-53], 52)
@example([1.0, 2.0**-53, 2.0**-1074], 52)
@example([1.7976931348623157e308, 2.0**970], 52)
@example([5e-324, 0.0], 52)
@example([5e-324, 5e-324, 5e-324, 0.0], 52)
def test_compiled_digits_round_like_integers(values, width):
    found, want = reduced(values, width, lambda kernel: kernel), wanted(values)
    assert all(map(same, found, want)), (found, want)


@settings(max_examples=25, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=6))
def test_the_same_code_uncompiled_rounds_like_integers(values):
    found, want = reduced(values, 52, lambda kernel: kernel.py_func), wanted(values)
    assert all(map(same, found, want)), (found, want)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_values_of_like_size_are_rounded_exactly_too(seed):
    rng = np.random.default_rng(seed)
    for n in (2, 3, 7, 1000):
        values = (rng.normal(size=n) * 10.0 ** rng.integers(-3, 3)).tolist()
        assert reduced(values, 46, lambda kernel: kernel) == wanted(values)
