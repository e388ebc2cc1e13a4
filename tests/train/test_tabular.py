import math

import numpy as np
import pytest
import torch

from rayplat.train.tabular import TabularNet


def learned(bins: int = 4) -> TabularNet:
    torch.manual_seed(0)
    network = TabularNet(3, hidden=(8,), bins=bins)
    x = torch.tensor([[0.0, 5.0, float("nan")], [10.0, 5.0, float("nan")]])
    quantiles = torch.nanquantile(x, torch.linspace(0, 1, bins + 1), dim=0).T
    std = torch.tensor([5.0, 0.0, float("nan")])
    network.set_statistics(x.nanmean(dim=0), std, quantiles, 0.2)
    return network


@pytest.mark.parametrize("bins", [0, 1, 4])
def test_any_input_gives_a_finite_logit(bins):
    network = learned(bins)
    wild = [float("nan"), float("inf"), -float("inf"), 0.0, 1e30, -1e30]
    x = torch.tensor([[a, b, c] for a in wild for b in wild for c in wild])
    logits = network(x)
    assert logits.shape == (len(x),)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_missing_is_not_the_mean():
    network = learned()
    x = torch.tensor([[5.0, 5.0, 0.0], [float("nan"), 5.0, 0.0]])
    assert network(x)[0] != network(x)[1]


def test_it_starts_at_the_base_rate():
    network = learned()
    assert network.head.bias.item() == pytest.approx(math.log(0.2 / 0.8))


def test_all_that_was_learned_travels_with_the_weights():
    network = learned()
    again = TabularNet(3, hidden=(8,), bins=4)
    again.load_state_dict(network.state_dict())
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    assert torch.equal(network(x), again(x))


def test_no_rows_give_no_logits():
    assert learned()(torch.zeros(0, 3)).shape == (0,)
