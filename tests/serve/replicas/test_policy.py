import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayplat.core.project.serving import Autoscale
from rayplat.serve.replicas.policy import Facts, Past, decide

SCALE = Autoscale(0, 8, ongoing=4, latency_s=0.1, calm_s=1, idle_s=10)
QUIET = Facts(replicas=0, ongoing=0, held=0)


def _after(moments, scale=SCALE, past=Past(0), floor=0):  # noqa: B008
    """The targets of decisions at some moments: pairs of time and facts."""
    targets = []
    for now, facts in moments:
        decision = decide(scale, facts, floor, past, now)
        past = decision.past
        targets.append(decision.target)
    return targets


@pytest.mark.parametrize(
    ("facts", "target", "reason"),
    [
        (QUIET, 0, "enough"),
        (Facts(0, 0, 3), 1, "held"),
        (Facts(1, 4.0, 0), 1, "ongoing"),
        (Facts(1, 4.1, 0), 2, "ongoing"),
        (Facts(1, 400, 0), 8, "ongoing"),
        (Facts(2, 5, 0, latency_s=0.15), 3, "latency"),
        (Facts(2, 5, 0, latency_s=9.0), 4, "latency"),
        (Facts(3, 4, 0, latency_s=0.08), 3, "latency"),
        (Facts(3, 3, 0, latency_s=9.0), 1, "ongoing"),
    ],
)
def test_a_rise_is_decided_at_once_and_says_why(facts, target, reason):
    decision = decide(SCALE, facts, 0, Past(0), 5.0)
    assert (decision.target, decision.reason) == (target, reason)


def test_latency_asks_for_no_more_while_new_replicas_start():
    slow = Facts(2, 5, 0, latency_s=0.2)
    assert _after([(t / 10, slow) for t in range(20)]) == [4] * 20


def test_fewer_must_have_been_enough_for_a_while_and_the_busiest_moment_of_it_counts():
    busy, calm, more = Facts(4, 16, 0), Facts(4, 1, 0), Facts(4, 7, 0)
    moments = [(0, busy), (0.1, calm), (0.5, more), (1.0, calm), (1.2, calm), (1.3, calm), (2.4, calm)]
    assert _after(moments) == [4, 4, 4, 2, 2, 2, 1]


def test_a_rise_within_the_calm_begins_it_anew():
    busy, calm = Facts(4, 16, 0), Facts(4, 1, 0)
    moments = [(0, busy), (0.1, calm), (1.0, busy), (1.2, calm), (2.1, calm), (2.3, calm)]
    assert _after(moments) == [4, 4, 4, 4, 1, 1]


@pytest.mark.parametrize("swing_s", [0.05, 0.2, 0.5, 0.9])
def test_a_load_that_swings_faster_than_the_calm_moves_nothing(swing_s):
    busy, calm = Facts(3, 12, 0), Facts(3, 4, 0)
    moments = [(t * 0.05, busy if int(t * 0.05 / swing_s) % 2 == 0 else calm) for t in range(1200)]
    assert _after(moments) == [3] * 1200


@pytest.mark.parametrize("seed", range(5))
def test_noise_around_a_border_changes_the_number_at_most_twice_in_a_calm(seed):
    chance = random.Random(seed)
    scale = replace(SCALE, calm_s=0.6)
    targets = _after([(t * 0.05, Facts(2, chance.gauss(4, 0.3), 0)) for t in range(1200)], scale)
    changes = sum(a != b for a, b in itertools.pairwise(targets))
    assert changes <= 4  # in a minute; every second moment is over the border
    assert set(targets) <= {1, 2}


def test_the_last_replica_stays_until_nobody_has_asked_for_a_while():
    quiet = replace(QUIET, replicas=1)
    moments = [(0, Facts(0, 0, 1)), (1, quiet), (9.9, quiet), (10.5, quiet), (11.5, quiet), (12, quiet)]
    assert _after(moments) == [1, 1, 1, 1, 0, 0]


def test_hours_hold_a_floor_and_never_more_than_the_most():
    assert _after([(0, QUIET)], floor=3) == [3]
    assert _after([(0, QUIET)], floor=30) == [8]


@given(
    st.integers(0, 5),
    st.integers(1, 9),
    st.lists(
        st.tuples(
            st.floats(0, 3),
            st.builds(
                Facts, st.integers(0, 9), st.floats(0, 100), st.integers(0, 9), st.none() | st.floats(0, 5)
            ),
            st.integers(0, 12),
        ),
        max_size=30,
    ),
)
def test_targets_are_always_within_bounds_and_enough_for_what_is_seen(least, more, moments):
    scale = replace(SCALE, least=least, most=least + more)
    past, now = Past(least), 0.0
    for passed, facts, floor in moments:
        now += passed
        decision = decide(scale, facts, floor, past, now)
        assert least <= decision.target <= scale.most
        assert decision.target >= min(scale.most, -(-facts.ongoing // scale.ongoing), floor or 99)
        past = decision.past
