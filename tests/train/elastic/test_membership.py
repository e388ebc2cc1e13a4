"""The rules of membership, one by one: values in, a decision out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rayplat.train.elastic.facts import GroupFacts, MemberFact, Phase
from rayplat.train.elastic.membership import (
    FIRST_GATHER_S,
    GATHER_S,
    SETTLE_S,
    End,
    Form,
    Regroup,
    Wait,
    decide_membership,
)

NOW = 100.0


def member(name: str, phase: Phase, step: int = -1, *, since: float = NOW, slot: int = 0) -> MemberFact:
    return MemberFact(name, slot, phase, step=step, since=since)


def facts(*members: MemberFact, training: tuple[str, ...] = (), **more: object) -> GroupFacts:
    base = GroupFacts(members, 1, 4, training, broken=False, now=NOW, begun=bool(training))
    return replace(base, **more)  # type: ignore[arg-type]


def test_the_run_begins_with_all_that_are_there_and_waits_a_little_for_those_on_their_way():
    ready, coming = member("a", Phase.READY), member("b", Phase.STARTING)
    assert decide_membership(facts(ready, coming)) == Wait(FIRST_GATHER_S)
    assert decide_membership(facts(ready)) == Form(("a",))
    late = replace(ready, since=NOW - FIRST_GATHER_S)
    assert decide_membership(facts(late, coming)) == Form(("a",))


def test_the_run_does_not_begin_with_fewer_than_the_least():
    assert isinstance(decide_membership(facts(member("a", Phase.READY), least=2)), Wait)
    two = facts(member("a", Phase.READY), member("b", Phase.READY, slot=1), least=2)
    assert decide_membership(two) == Form(("a", "b"))


def test_survivors_go_on_at_once_also_with_fewer_than_the_least():
    left = facts(
        member("b", Phase.WAITING, 7, slot=1), member("c", Phase.STARTING), least=2, broken=True, begun=True
    )
    assert decide_membership(left) == Form(("b",))


def test_whoever_is_furthest_is_rank_0_and_a_standby_comes_last():
    group = facts(
        member("a", Phase.WAITING, 7, slot=2),
        member("b", Phase.WAITING, 8, slot=3),
        member("standby", Phase.READY, slot=-1),
        broken=True,
        training=("a", "b", "x"),
    )
    assert decide_membership(group) == Form(("b", "a", "standby"))


def test_a_broken_generation_waits_for_its_members_and_ends_those_that_give_no_sign():
    stuck = member("a", Phase.TRAINING, 7, since=NOW - 1)
    there = member("b", Phase.WAITING, 7)
    broken = facts(stuck, there, training=("a", "b", "x"), broken=True)
    assert decide_membership(broken) == Wait(SETTLE_S - 1)
    silent = replace(broken, members=(replace(stuck, since=NOW - SETTLE_S - 1), there))
    decision = decide_membership(silent)
    assert isinstance(decision, End)
    assert decision.members == ("a",)


def test_members_that_are_ready_are_taken_in_together():
    training = member("a", Phase.TRAINING, 7)
    fresh = member("b", Phase.READY, since=NOW, slot=1)
    coming = member("c", Phase.STARTING, slot=2)
    assert decide_membership(facts(training, fresh, coming, training=("a",))) == Wait(GATHER_S)
    assert isinstance(decide_membership(facts(training, fresh, training=("a",))), Regroup)
    full = facts(training, fresh, training=("a",), most=1)
    assert isinstance(decide_membership(full), Wait)


def test_those_that_leave_are_let_go_while_somebody_stays():
    leaving = replace(member("a", Phase.TRAINING, 7), leaving=True)
    stays = member("b", Phase.TRAINING, 7, slot=1)
    assert isinstance(decide_membership(facts(leaving, stays, training=("a", "b"))), Regroup)
    assert isinstance(decide_membership(facts(leaving, training=("a",))), Wait)
    waiting = facts(
        replace(leaving, phase=Phase.WAITING), replace(stays, phase=Phase.WAITING), broken=True, begun=True
    )
    assert decide_membership(waiting) == Form(("b",))


phases = st.sampled_from(list(Phase))
members = st.lists(
    st.builds(
        MemberFact,
        id=st.uuids().map(str),
        slot=st.integers(-1, 5),
        phase=phases,
        step=st.integers(-1, 9),
        since=st.floats(0, NOW),
        leaving=st.booleans(),
    ),
    max_size=8,
)


@given(members, st.integers(1, 4), st.integers(0, 4), st.booleans(), st.booleans())
def test_no_generation_is_larger_than_the_most_or_has_members_that_are_not_free(
    some, least, more, broken, begun
):
    training = tuple(m.id for m in some if m.phase is Phase.TRAINING)
    group = GroupFacts(tuple(some), least, least + more, training, broken, NOW, begun)
    decision = decide_membership(group)
    if isinstance(decision, Form):
        chosen = [next(m for m in some if m.id == name) for name in decision.members]
        assert 1 <= len(chosen) <= group.most
        assert all(m.phase in (Phase.READY, Phase.WAITING) for m in chosen)
        assert chosen[0].step == max(m.step for m in chosen)
        assert not training or broken
        assert len(chosen) >= least or any(m.step >= 0 for m in chosen)
    if isinstance(decision, Wait):
        assert decision.seconds >= 0
