import numpy as np
import pytest
import torch

from rayplat.core.errors import BugError
from rayplat.serve.evaluation import LANES, probabilities
from rayplat.serve.lanes import Lanes


def network(inputs):
    torch.manual_seed(7)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 33), torch.nn.ReLU(), torch.nn.Linear(33, 17), torch.nn.Linear(17, 1)
    ).eval()


def test_few_rows_have_the_numbers_of_many_to_the_bit():
    asked = network(5)
    x = np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)
    whole = probabilities(asked, x, "m").tolist()
    lanes = Lanes(asked, 5, "m")
    for rows in (1, 2, 7, LANES):
        for begin in range(0, 300 - rows, 31):
            assert lanes.probabilities(x[begin : begin + rows]) == whole[begin : begin + rows]


def test_what_a_network_writes_into_its_input_is_not_seen_again():
    lanes = Lanes(lambda x: x.mul_(2)[:, 0], 1, "m")
    one = np.ones((1, 1), np.float32)
    assert lanes.probabilities(one) == lanes.probabilities(one)


@pytest.mark.parametrize("wrong", [lambda x: x[:, 0] * np.nan, lambda x: x[:3, 0], lambda x: x])
def test_what_is_no_logit_a_row_is_a_bug(wrong):
    with pytest.raises(BugError, match="'m'"):
        Lanes(wrong, 2, "m").probabilities(np.ones((1, 2), np.float32))
