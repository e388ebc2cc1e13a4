import hypothesis
import hypothesis.strategies as st
import pytest

from rayplat.core.errors import UserError
from rayplat.train.checkpoints.retention import Kept, Retention, superseded


def there(*steps: int, **losses: float) -> list[Kept]:
    return [Kept(f"s{n}", n, {"loss": losses[f"s{n}"]} if f"s{n}" in losses else {}) for n in steps]


def test_the_last_ones_stay():
    assert superseded(there(3, 1, 2), Retention(last=2)) == ("s1",)
    assert superseded(there(1), Retention(last=2)) == ()
    assert superseded([], Retention()) == ()


def test_the_best_stay_too():
    losses = {"s1": 0.3, "s2": 0.1, "s3": 0.2, "s4": float("nan"), "s5": 0.9}
    lowest = Retention(last=1, best=2, metric="loss")
    assert superseded(there(1, 2, 3, 4, 5, **losses), lowest) == ("s1", "s4")
    highest = Retention(last=1, best=1, metric="loss", higher_is_better=True)
    assert superseded(there(1, 2, 3, s1=0.3, s2=0.1), highest) == ("s2",)
    assert superseded(there(1, 2, 3, s1=0.1, s2=0.1), Retention(1, 1, "loss")) == ("s1",)


def test_every_nth_stays():
    assert superseded(there(5, 90, 100, 150, 230, 250, 300), Retention(last=1, every=100)) == (
        "s5",
        "s90",
        "s150",
        "s250",
    )


@hypothesis.given(
    steps=st.sets(st.integers(0, 500), max_size=30),
    last=st.integers(1, 4),
    every=st.integers(0, 50),
)
def test_what_was_kept_once_as_every_nth_is_kept_when_more_come(steps, last, every):
    policy, kept = Retention(last=last, every=every), []
    for step in sorted(steps):
        kept.append(Kept(f"s{step}", step))
        gone = set(superseded(kept, policy))
        assert kept[-1].name not in gone
        kept = [one for one in kept if one.name not in gone]
    at_once = set(superseded([Kept(f"s{s}", s) for s in steps], policy))
    assert {one.name for one in kept} == {f"s{s}" for s in steps} - at_once


@pytest.mark.parametrize("options", [{"last": 0}, {"best": 1}, {"every": -1}, {"best": -1}])
def test_rules_that_make_no_sense_are_told(options):
    with pytest.raises(UserError, match="retention got"):
        Retention(**options)
