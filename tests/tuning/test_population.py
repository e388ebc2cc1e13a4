import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Float, Int, Space
from rayplat.tuning.population import Population, perturbed

SPACE = Space(
    lr=Float(1e-4, 1e-1, log=True),
    kind=Choice(("a", "b")),
    depth=Int(1, 9, when={"kind": "a"}),
)


def generation(population, members, step, value):
    """All of them report the end of a generation."""
    for member in members:
        assert not population.goes_on(member, step, value(member))
        population.ended(member, "stopped")


def test_the_worst_end_and_copies_of_the_best_take_their_place():
    population = Population(SPACE, size=8, interval=1)
    assert [population.ask(n) is not None for n in range(9)] == [True] * 8 + [False]
    generation(population, range(8), 1, float)
    copies = [population.ask(n) for n in (8, 9, 10)]
    assert copies[2] is None
    parents = [population.origin(n) for n in (8, 9)]
    assert set(parents) <= {0, 1}
    left = []
    while (member := population.again(last=False)) is not None:
        left.append(member)
    assert sorted(left) == sorted(set(range(6)) - set(parents))  # a parent stays until it was copied
    population.goes_on(8, 2, 0.5)
    population.goes_on(9, 2, 0.5)
    left = []
    while (member := population.again(last=False)) is not None:
        left.append(member)
    assert set(left) == set(parents)


def test_nobody_leaves_before_the_last_has_arrived_and_a_failed_one_is_not_waited_for():
    population = Population(SPACE, size=4, interval=2)
    for n in range(4):
        population.ask(n)
        assert population.goes_on(n, 1, 0.0)
    generation(population, range(3), 2, float)
    assert population.again(last=False) is None
    assert population.ask(4) is None
    population.ended(3, "failed")
    assert population.ask(4) is not None


def test_at_the_last_the_members_go_on_without_copies():
    population = Population(SPACE, size=4)
    for n in range(4):
        population.ask(n)
    generation(population, range(4), 1, float)
    left = []
    while (member := population.again(last=True)) is not None:
        left.append(member)
    assert sorted(left) == [0, 1, 2]


def test_a_later_sitting_finds_the_same_copies():
    one, other = Population(SPACE, seed=3), Population(SPACE, seed=3)
    for n in range(8):
        one.ask(n)
    generation(one, range(8), 1, lambda n: (n * 5) % 8)
    for n in range(8):
        other.learn(n, {1: (n * 5) % 8}, "stopped")
    for n in (8, 9):
        assert one.ask(n) == other.ask(n)
        assert one.origin(n) == other.origin(n)


@given(st.integers(0, 10**6), st.floats(1e-4, 1e-1), st.sampled_from(["a", "b"]), st.integers(1, 9))
def test_perturbed_values_stay_within_their_ranges_and_only_those_that_exist_are_there(seed, lr, kind, depth):
    params = {"lr": lr, "kind": kind} | ({"depth": depth} if kind == "a" else {})
    found = perturbed(SPACE, params, np.random.default_rng(seed), 0.25)
    assert 1e-4 <= found["lr"] <= 1e-1
    assert ("depth" in found) == (found["kind"] == "a")
    assert 1 <= found.get("depth", 1) <= 9


def test_a_value_that_is_not_drawn_anew_changes_by_a_fifth():
    params = {"lr": 0.01, "kind": "b"}
    found = {perturbed(SPACE, params, np.random.default_rng(seed), 0.0)["lr"] for seed in range(20)}
    assert sorted(found) == pytest.approx([0.008, 0.012])


@pytest.mark.parametrize("given", [{"size": 1}, {"interval": 0}, {"share": 0.6}])
def test_a_population_that_could_not_live_is_refused(given):
    with pytest.raises(UserError):
        Population(SPACE, **given)


def test_a_copy_that_was_killed_before_it_kept_anything_finds_its_parent_again():
    first, second = Population(SPACE, seed=3, size=4), Population(SPACE, seed=3, size=4)
    for number in range(4):
        first.ask(number)
        first.goes_on(number, 1, float(number))
        first.ended(number, "stopped")
    copy = first.ask(4)
    for number in range(4):
        second.learn(number, {1: float(number)}, "stopped")
    second.learn(4, {}, "running")
    assert second.origin(4) == first.origin(4) == 0  # asked before anything is proposed
    assert second.ask(4) == copy
