import numpy as np

from rayplat.train.input.draws import Draws


def test_a_row_draws_the_same_in_whatever_company_it_comes():
    rows = np.arange(1000)
    whole, part = Draws(7, 3, rows), Draws(7, 3, rows[400:437])
    for _ in range(2):  # each call goes on where the one before ended
        np.testing.assert_array_equal(whole.uniform(3)[400:437], part.uniform(3))
    np.testing.assert_array_equal(whole.normal(2)[400:437], part.normal(2))


def test_seed_epoch_row_and_call_all_count():
    rows = np.arange(500)
    draws = Draws(7, 3, rows)
    first, second = draws.uniform(1), draws.uniform(1)
    others = [first, second, Draws(8, 3, rows).uniform(1), Draws(7, 4, rows).uniform(1)]
    for at, one in enumerate(others):
        assert len(np.unique(one)) == len(rows)
        for other in others[at + 1 :]:
            assert abs(np.corrcoef(one[:, 0], other[:, 0])[0, 1]) < 0.2  # 4.5 standard deviations of chance


def test_they_are_distributed_as_they_should_be():
    """With 100,000 rows the mean of a uniform has a standard deviation of 0.0009, that of a normal 0.003."""
    draws = Draws(1, 0, np.arange(100_000))
    uniform, normal = draws.uniform(1), draws.normal(1)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.006
    assert np.all(np.abs(np.histogram(uniform, 10, (0, 1))[0] - 10_000) < 600)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
