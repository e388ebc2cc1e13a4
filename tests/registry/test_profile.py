import numpy as np
import pytest

from rayplat.registry.profile import FeatureProfile, profile_of, proportions


def test_a_continuous_feature_has_tenths():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    values[:1000] = np.nan
    profile = profile_of(values)
    assert len(profile.edges) == 9
    assert profile.proportions == pytest.approx([0.1] * 10, abs=0.001)
    assert (profile.null_share, profile.rows) == (pytest.approx(0.1), 10_000)


@pytest.mark.parametrize("ones", [5, 95])
def test_a_rare_or_frequent_flag_keeps_its_two_bins(ones):
    values = np.array([1.0] * ones + [0.0] * (100 - ones), dtype=np.float32)
    profile = profile_of(values)
    assert profile.edges == (0.5,)
    assert profile.proportions == pytest.approx([1 - ones / 100, ones / 100])


def test_a_value_on_an_edge_belongs_to_the_bin_above():
    assert proportions(np.array([1.0, 2.0, 2.0, np.nan]), [2.0]).tolist() == pytest.approx([1 / 3, 2 / 3])


def test_nothing_but_missing_values_has_one_empty_bin():
    profile = profile_of(np.full(3, np.nan, dtype=np.float32))
    assert profile == FeatureProfile(edges=(), proportions=(0.0,), null_share=1.0, rows=3)


def test_infinite_values_survive_json():
    profile = profile_of(np.array([np.inf, -np.inf, 1.0, 2.0], dtype=np.float32))
    assert FeatureProfile.model_validate_json(profile.model_dump_json()) == profile
