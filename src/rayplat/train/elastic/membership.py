"""When members train together, and which: pure decisions over facts.

Knows the rules of membership; it does not know Ray, torch, sockets or a clock.
"""

from dataclasses import dataclass

from rayplat.train.elastic.facts import GroupFacts, MemberFact, Phase

GATHER_S = 0.25
"""How long ready members wait for others that are on their way, so that not each one costs a regroup."""
FIRST_GATHER_S = 5.0
"""The same before the first step, when nothing stands still but the beginning."""
SETTLE_S = 20.0
"""How long a broken generation waits for a member that neither leaves it nor is gone; then it is ended."""


@dataclass(frozen=True, slots=True)
class Form:
    """Begin a generation with these members, in this order of ranks."""

    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Regroup:
    """Let the members of the current generation leave it at the end of their step."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """End members by force: they hold the others up."""

    members: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for `seconds`, or until something happens."""

    seconds: float


Decision = Form | Regroup | End | Wait


def decide_membership(facts: GroupFacts) -> Decision:
    """What is to be done now.

    While a generation trains, members that are ready are taken in, and those that leave are let go, by one
    regroup. Between generations, whoever has the state of the run goes on at once: with a peer's state alive,
    waiting would cost steps and buy nothing. Without any state, the run begins with at least `least` members.
    """
    if facts.generation and not facts.broken:
        return _while_training(facts)
    training = [m for m in facts.members if m.phase is Phase.TRAINING]
    if training:
        late = [m for m in training if facts.now - m.since > facts.settle_s]
        if late:
            return End(tuple(m.id for m in late), f"no sign for {facts.settle_s:.0f} s after a peer was lost")
        return Wait(min(m.since + facts.settle_s - facts.now for m in training))
    return _between(facts)


def _while_training(facts: GroupFacts) -> Decision:
    leaving = [m for m in facts.members if m.id in facts.generation and m.leaving]
    if leaving and len(leaving) < len(facts.generation):
        return Regroup(f"{len(leaving)} of {len(facts.generation)} workers are about to leave")
    fresh = [m for m in facts.members if m.phase in (Phase.READY, Phase.WAITING) and not m.leaving]
    room = facts.most - len(facts.generation)
    if not fresh or room <= 0:
        return Wait(1.0)
    ripe = min(m.since for m in fresh) + GATHER_S - facts.now
    coming = any(m.phase is Phase.STARTING for m in facts.members)
    if coming and len(fresh) < room and ripe > 0:
        return Wait(ripe)
    return Regroup(f"{min(len(fresh), room)} more workers are ready")


def _between(facts: GroupFacts) -> Decision:
    staying = [m for m in facts.members if not m.leaving] or list(facts.members)
    there = [m for m in staying if m.phase in (Phase.READY, Phase.WAITING)]
    if not there:
        return Wait(1.0)
    with_state = any(m.step >= 0 for m in there)
    if with_state:
        return Form(_ranks(there, facts.most))
    if len(there) < min(facts.least, facts.most):
        return Wait(1.0)
    coming = any(m.phase is Phase.STARTING for m in staying)
    gather = GATHER_S if facts.begun else FIRST_GATHER_S
    ripe = min(m.since for m in there) + gather - facts.now
    if coming and len(there) < facts.most and ripe > 0:
        return Wait(ripe)
    return Form(_ranks(there, facts.most))


def _ranks(there: list[MemberFact], most: int) -> tuple[str, ...]:
    """Those with the most steps behind them first: rank 0 gives its state to whoever is behind.

    A standby comes last among equals: it trains only where a place is free.
    """
    return tuple(m.id for m in sorted(there, key=lambda m: (-m.step, m.slot < 0, m.slot, m.id))[:most])
