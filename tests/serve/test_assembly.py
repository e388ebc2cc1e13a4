import random

import numpy as np
import polars as pl
import pytest
import torch

from rayplat.serve.assembly import assembled, by_hand, by_query

INPUTS = ["d", "a", "c", "b", "e"]


def _frame(chance, rows):
    def drawn(make):
        return [None if chance.random() < 0.2 else make() for _ in range(rows)]

    specials = [float("nan"), float("inf"), 1e300, 1e-320, -0.0, 3.4028235677973366e38]
    columns = {
        "a": pl.Series(drawn(lambda: chance.choice([*specials, chance.gauss(0, 1)])), dtype=pl.Float64),
        "b": pl.Series(drawn(lambda: chance.gauss(0, 1)), dtype=pl.Float32),
        "c": pl.Series(drawn(lambda: chance.randrange(-(2**53), 2**53)), dtype=pl.Int64),
        "d": pl.Series(drawn(lambda: chance.random() < 0.5), dtype=pl.Boolean),
        "e": pl.Series(drawn(lambda: chance.randrange(2**32)), dtype=pl.UInt32),
        "not_an_input": pl.Series(["x"] * rows),
    }
    return pl.DataFrame(columns)


@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_a_few_rows_are_assembled_to_the_bit_as_a_query_gives_them(rows):
    chance = random.Random(rows)
    torch.manual_seed(rows)
    network = torch.nn.Sequential(torch.nn.Linear(5, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).eval()
    for _ in range(50):
        frame = _frame(chance, rows)
        (told, x), (wanted, y) = by_hand(frame, INPUTS), by_query(frame, INPUTS)
        assert x.dtype == y.dtype == np.float32
        assert x.tobytes() == y.tobytes()
        assert repr(told) == repr(wanted)
        with torch.inference_mode():
            one, other = (network(torch.nan_to_num(torch.from_numpy(z), 0, 1, -1)) for z in (x, y))
        assert one.numpy().tobytes() == other.numpy().tobytes()


def test_a_whole_number_that_float64_does_not_hold_is_left_to_the_query():
    frame = pl.DataFrame({"a": [2**60 + 2**36 + 1]})
    assert by_hand(frame, ["a"]) is None
    assert assembled(frame, ["a"])[1].tobytes() == np.array([2**60 + 2**36 + 1]).astype(np.float32).tobytes()
    assert by_hand(pl.DataFrame({"a": ["x"]}), ["a"]) is None
