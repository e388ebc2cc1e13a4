"""The state of one member as another one gets it."""

import math

import torch

from rayplat.train.elastic.agreement import NOTHING, pack, progress, unpack
from rayplat.train.live_state import LiveState


def trained() -> LiveState:
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.randn(8, 3)).square().mean().backward()
        optimizer.step()
    curve: dict[int, float | torch.Tensor] = {0: 0.5, 1: torch.tensor([0.25]), 2: math.nan}
    return LiveState(
        network, optimizer, step=3, epoch=1, batch=1, epochs_done=1, history={"loss": [(0, 0.5)]}, curve=curve
    )


def test_a_member_that_joins_gets_the_state_whole_also_where_a_loss_is_no_number():
    live = trained()
    other = LiveState(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    )
    unpack(pack(live), other)
    for name, tensor in live.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name
    state, expected = other.optimizer_state, live.optimizer.state_dict()
    assert state is not None
    assert state["param_groups"] == expected["param_groups"]
    for index, values in expected["state"].items():
        for name, value in values.items():
            assert torch.equal(state["state"][index][name], value), (index, name)
    assert (other.step, other.epoch, other.batch, other.epochs_done) == (3, 1, 1, 1)
    assert other.history == {"loss": [(0, 0.5)]}
    losses = other.losses()
    assert (losses[0], losses[1]) == (0.5, 0.25)
    assert math.isnan(losses[2])


def test_a_state_in_the_middle_of_a_change_is_none():
    live = trained()
    assert progress(live) == (3, 1)
    live.changing = True
    assert progress(live) == NOTHING
    assert progress(None) == NOTHING
