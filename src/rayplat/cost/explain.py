"""Why a stretch of time cost more or less than the one before, in words.

Knows how a difference falls apart into groups, teams and idleness; it does not know why people did
what they did. Pure.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rayplat.cost.ledger import Charge, total
from rayplat.cost.meter import IDLE
from rayplat.cost.money import shown
from rayplat.cost.report import DIMENSIONS

_WORTH_SAYING = 0.05
"""Changes under this part of the whole movement are left out of the words."""


@dataclass(frozen=True, slots=True)
class Change:
    """One name's cost before and after, nano-dollars."""

    name: str
    before: int
    after: int

    @property
    def by(self) -> int:
        """How much more it is now."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Explanation:
    """What changed. The changes of each dimension add up to the whole.

    Attributes:
        idle: what nobody held.
        dimensions: changes by name, the largest first, for each of group, team, project and kind.
        words: the same in sentences.
    """

    before: int
    after: int
    idle: Change
    dimensions: Mapping[str, tuple[Change, ...]]
    words: tuple[str, ...]


def explain(before: Sequence[Charge], after: Sequence[Charge], times: tuple[str, str]) -> Explanation:
    """Compare two stretches of time.

    Args:
        times: what to call them, the earlier first.
    """
    whole = Change("all", total(before), total(after))
    dimensions = {
        name: _changes(before, after, DIMENSIONS[name]) for name in ("group", "team", "project", "kind")
    }
    idle = next((c for c in dimensions["kind"] if c.name == IDLE), Change(IDLE, 0, 0))
    words = (_first(whole, times), *_parts(dimensions, whole), *_idle(idle, whole))
    return Explanation(whole.before, whole.after, idle, dimensions, words)


def _changes(
    before: Iterable[Charge], after: Iterable[Charge], name_of: Callable[[Charge], str]
) -> tuple[Change, ...]:
    sums: dict[str, list[int]] = {}
    for place, charges in enumerate((before, after)):
        for charge in charges:
            sums.setdefault(name_of(charge), [0, 0])[place] += charge.nano
    return tuple(sorted((Change(n, b, a) for n, (b, a) in sums.items()), key=lambda c: (-abs(c.by), c.name)))


def _first(whole: Change, times: tuple[str, str]) -> str:
    if not whole.by:
        return f"{times[1]} cost {shown(whole.after)}, as {times[0]} did."
    word = "more" if whole.by > 0 else "less"
    part = f" ({abs(whole.by) * 100 / whole.before:.0f} %)" if whole.before else ""
    return (
        f"{times[1]} cost {shown(whole.after)}, {shown(abs(whole.by))}{part} {word} than {times[0]} "
        f"({shown(whole.before)})."
    )


def _parts(dimensions: Mapping[str, tuple[Change, ...]], whole: Change) -> list[str]:
    said = []
    for name in ("group", "team", "project"):
        moved = [c for c in dimensions[name] if c.by and abs(c.by) >= _WORTH_SAYING * abs(whole.by)]
        named = [f"{c.name} {_signed(c.by)}{_new(c)}" for c in moved[:3]]
        if named:
            said.append(f"By {name}: {', '.join(named)}.")
    return said


def _signed(amount: int) -> str:
    return f"+{shown(amount)}" if amount > 0 else shown(amount)


def _new(change: Change) -> str:
    if not change.before:
        return " (new)"
    return " (gone)" if not change.after else ""


def _idle(idle: Change, whole: Change) -> list[str]:
    if not idle.after and not idle.before:
        return []
    now = 100 * idle.after / whole.after if whole.after else 0.0
    then = 100 * idle.before / whole.before if whole.before else 0.0
    return [f"Idle: {shown(idle.after)}, {now:.0f} % of all ({then:.0f} % before)."]
