import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.monitoring.drift import EPSILON, drift, expected_shares, jensen_shannon, noise, profile, psi
from rayplat.registry.profile import profile_of


def _shares(counts: list[int]) -> np.ndarray:
    return np.asarray(counts, dtype=float) / sum(counts)


counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(lambda c: sum(c) > 0)
pairs = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.integers(0, 1000), min_size=n, max_size=n).filter(lambda c: sum(c) > 0)] * 2
    )
)


def test_psi_of_a_worked_example():
    # (0.3 - 0.5) ln(0.3/0.5) + (0.7 - 0.5) ln(0.7/0.5) = 0.1021651 + 0.0672944
    assert psi([0.5, 0.5], [0.3, 0.7]) == pytest.approx(0.1694596, abs=2e-4)


def test_psi_of_an_empty_bucket_is_finite_and_as_smoothed():
    e, a = (1 + EPSILON) / (1 + 2 * EPSILON), EPSILON / (1 + 2 * EPSILON)
    assert psi([1, 0], [0, 1]) == pytest.approx(2 * (e - a) * math.log(e / a))


def test_jensen_shannon_of_worked_examples():
    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)
    # middle = (0.75, 0.25): (1 * log2(4/3) + 0.5 * log2(2/3) + 0.5 * log2(2)) / 2 = 0.3112781 bits
    assert jensen_shannon([1, 0], [0.5, 0.5]) == pytest.approx(math.sqrt(0.3112781), abs=1e-6)


def test_profile_counts_edges_to_the_right_and_missing_last():
    shares = profile([0.0, 1.0, 1.5, 2.0, 9.0, math.nan, math.inf, -math.inf], [1.0, 2.0])
    assert shares.tolist() == [2 / 8, 2 / 8, 3 / 8, 1 / 8]


def test_profile_without_edges_still_sees_missing():
    assert profile([1.0, math.nan], []).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("edges", [[2.0, 1.0], [1.0, 1.0], [math.nan], [math.inf]])
def test_profile_refuses_edges_that_do_not_rise(edges):
    with pytest.raises(UserError, match="do not rise"):
        profile([1.0], edges)


def test_nothing_and_unequal_buckets_are_refused():
    with pytest.raises(UserError, match="no values"):
        profile([], [1.0])
    with pytest.raises(UserError, match="2 expected buckets"):
        psi([0.5, 0.5], [1.0])
    with pytest.raises(UserError, match="1 actual"):
        jensen_shannon([0.5, 0.5], [1.0])


@given(pairs)
def test_distances_are_symmetric_bounded_and_never_negative(pair):
    e, a = map(_shares, pair)
    assert psi(e, a) >= 0
    assert psi(e, a) == pytest.approx(psi(a, e))
    assert 0 <= jensen_shannon(e, a) <= 1
    assert jensen_shannon(e, a) == pytest.approx(jensen_shannon(a, e))


@given(counts)
def test_a_distribution_is_at_no_distance_from_itself(sizes):
    p = _shares(sizes)
    assert psi(p, p) == 0
    assert jensen_shannon(p, p) == 0


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_buckets_does_not_matter(pair, random):
    e, a = map(_shares, pair)
    order = list(range(len(e)))
    random.shuffle(order)
    assert psi(e[order], a[order]) == pytest.approx(psi(e, a))


@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=1, max_size=200))
def test_the_training_rows_themselves_have_not_drifted(values):
    training = profile_of(np.asarray(values))
    assert expected_shares(training).sum() == pytest.approx(1)
    found = drift(training, values)
    assert found.psi == pytest.approx(0, abs=1e-9)
    assert not found.over(0.0)


def test_noise_holds_in_99_of_100_samples_of_an_unchanged_world():
    rng = np.random.default_rng(7)
    training = profile_of(rng.normal(size=5000))
    fresh = [drift(training, rng.normal(size=200)) for _ in range(500)]
    under = sum(d.psi < d.noise for d in fresh)
    assert 0.97 * 500 <= under <= 500
    assert noise(10, 5000, 200) > noise(10, 5000, 2000)


def test_drift_is_told_of_a_shift_of_silence_and_of_a_flag_that_turns():
    rng = np.random.default_rng(8)
    training = profile_of(rng.normal(size=5000))
    assert drift(training, rng.normal(1.0, size=500)).over(0.2)
    silent = drift(training, np.full(500, np.nan))
    assert silent.over(0.2)
    assert silent.missing == 1
    flags = profile_of((rng.random(5000) < 0.02).astype(float))
    assert drift(flags, (rng.random(500) < 0.5).astype(float)).over(0.2)
    assert not drift(training, rng.normal(1.0, size=3)).over(1000.0)


def test_few_rows_alone_are_no_drift():
    rng = np.random.default_rng(9)
    training = profile_of(rng.normal(size=5000))
    found = [drift(training, rng.normal(size=12)) for _ in range(300)]
    assert sum(d.psi > 0.2 for d in found) > 150
    assert sum(d.over(0.2) for d in found) <= 6
