import numpy as np
import pytest
import torch

from rayplat.core.errors import BugError
from rayplat.serve.evaluation import LANES, MOST_ROWS, probabilities


def network(inputs, hidden):
    torch.manual_seed(inputs * hidden)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, hidden),
        torch.nn.ReLU(),
        torch.nn.LayerNorm(hidden),
        torch.nn.Linear(hidden, hidden // 2),
        torch.nn.GELU(),
        torch.nn.Linear(hidden // 2, 1),
    ).eval()


@pytest.mark.parametrize("inputs", [1, 3, 7, 23, 128, 300])
@pytest.mark.parametrize("hidden", [16, 100, 256])
def test_a_row_is_answered_to_the_bit_whatever_is_asked_with_it(inputs, hidden):
    asked = network(inputs, hidden)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(MOST_ROWS + 999, inputs)).astype(np.float32)
    whole = probabilities(asked, x, "m")
    for begin, rows in [(0, 1), (1, 2), (17, 3), (40, LANES), (90, 17), (5, 1000), (4000, 500)]:
        part = probabilities(asked, x[begin : begin + rows], "m")
        assert part.tobytes() == whole[begin : begin + rows].tobytes(), (begin, rows)


def test_the_order_of_memory_does_not_matter():
    asked = network(9, 64)
    x = np.random.default_rng(3).normal(size=(50, 9)).astype(np.float32)
    assert probabilities(asked, np.asfortranarray(x), "m").tobytes() == probabilities(asked, x, "m").tobytes()


def test_a_network_answers_as_it_does_alone():
    asked = network(9, 64)
    x = np.random.default_rng(3).normal(size=(33, 9)).astype(np.float32)
    with torch.inference_mode():
        plain = torch.sigmoid(asked(torch.from_numpy(x)).double().reshape(-1)).numpy()
    # Sums of 64 float32 products in another order differ by some 1e-7 of their size.
    np.testing.assert_allclose(probabilities(asked, x, "m"), plain, rtol=0, atol=1e-6)


def test_no_rows_are_no_answers():
    assert probabilities(network(2, 16), np.empty((0, 2), np.float32), "m").shape == (0,)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(lambda x: x[:, 0] * float("nan"), "NaN"), (lambda x: x[:3, 0], "3 values for 5 rows")],
)
def test_a_network_that_gives_something_else_is_named(wrong, told):
    with pytest.raises(BugError, match=f"'m' gave {told}"):
        probabilities(wrong, np.ones((5, 2), np.float32), "m")
