"""Numbers that arithmetic likes to get wrong. Knows no aggregate."""

import math

import hypothesis.strategies as st

EDGES = [
    *(0.0, -0.0, 5e-324, -5e-324, 2.0**-1022, 2.0**-1022 - 5e-324, 1e-300),
    *(1.7976931348623157e308, -1.7976931348623157e308, 1e308, 2.0**1023, 1e300, 1e16, -1e16),
    *(1.0, 1.0 + 2.0**-52, 1.0 - 2.0**-53, 2.0**53, 2.0**53 + 2, 2.0**-53, 2.0**-54, 0.1, 0.3, -0.1, 3.0),
]
"""Doubles at the edges: subnormal, greatest, ties when rounded, far apart."""

FINITE = st.one_of(
    st.sampled_from(EDGES), st.floats(allow_nan=False, allow_infinity=False), st.floats(-1e3, 1e3)
)
FLOATS = st.one_of(FINITE, st.sampled_from([math.nan, math.inf, -math.inf]))
INTEGERS = st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53 + 1]))
TEXTS = st.text("ab\u00e9\U0001f600", max_size=3)


def same(one: object, two: object) -> bool:
    """Equal to the bit, NaN to NaN."""
    if isinstance(one, float) and isinstance(two, float):
        if math.isnan(one) or math.isnan(two):
            return math.isnan(one) and math.isnan(two)
        return one == two and math.copysign(1, one) == math.copysign(1, two)
    return type(one) is type(two) and one == two
