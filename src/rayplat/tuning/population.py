"""Population-based training: members train side by side, and the worst go on from copies of the best.

Knows values by step and generation, the lower the better, and how values of the space are perturbed; it does
not know how a state is kept or copied (`states`, `model_trial`).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Dimension, Int, Space
from rayplat.tuning.search import Params, RandomSearch, at_point

_FACTORS = (0.8, 1.2)


class Population:
    """Jaderberg et al., "Population based training of neural networks", 2017, generation by generation.

    After each `interval` steps all members wait for each other. Each of the worst share ends, and in its
    place a new trial begins with the state of a member of the best share (exploit) and with that one's
    values, perturbed (explore). Who follows whom and how values change is a function of the seed and the
    values reported, so a killed study finds the same generation again by its record.

    It is a search, which proposes the first members and then the copies, and a stopper, too.

    Args:
        size: how many members train side by side.
        interval: steps from one generation to the next.
        share: of the members, how many are replaced in each generation.
        drawn_anew: how likely a perturbed value is drawn anew in place of a factor 0.8 or 1.2.
    """

    def __init__(
        self,
        space: Space,
        seed: int = 0,
        *,
        size: int = 8,
        interval: int = 1,
        share: float = 0.25,
        drawn_anew: float = 0.25,
    ) -> None:
        if size < 2 or interval < 1 or not 0 < share <= 0.5:
            raise UserError(
                f"a population got size={size}, interval={interval}, share={share}",
                "give size >= 2, interval >= 1 and a share up to 0.5",
            )
        self._space, self._seed, self._anew = space, seed, drawn_anew
        self._first = RandomSearch(space, seed)
        self._size, self._interval = size, interval
        self._replaced = max(1, int(size * share))
        self._members = list(range(size))
        self._generation = interval
        self._params: dict[int, Params] = {n: self._first.ask(n) for n in range(size)}
        self._parents: dict[int, int] = {}
        self._begun: set[int] = set()
        self._gone: set[int] = set()
        self._waiting: set[int] = set()
        self._values: defaultdict[int, dict[int, float]] = defaultdict(dict)

    def ask(self, number: int) -> Params | None:
        """A first member, or a copy whose turn has come; None while the generation goes on."""
        self._close()
        if number not in self._params:
            return None
        self._begun.add(number)
        return dict(self._params[number])

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """A generation hears of its members by their reports."""

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """As `tell`."""

    def goes_on(self, trial: int, step: int, value: float) -> bool:
        """Within a generation it does; at its end it waits for the others."""
        self._values[trial][step] = math.inf if math.isnan(value) else value
        return step % self._interval != 0 or step < self._generation

    def learn(self, trial: int, reports: Mapping[int, float], state: str) -> None:
        """A member of an earlier sitting."""
        self._begun.add(trial)
        for step, value in reports.items():
            self.goes_on(trial, step, value)
        self.ended(trial, state)

    def ended(self, trial: int, state: str) -> None:
        """A stopped member waits; one that has failed or is complete leaves the population."""
        if state == "stopped":
            self._waiting.add(trial)
        elif state in {"complete", "failed"}:
            self._gone.add(trial)

    def again(self, *, last: bool) -> int | None:
        """A member of the new generation that waited, once its copies have begun.

        At the last no copy begins any more: the members go on without them.
        """
        self._close()
        if last:
            self._members = [m for m in self._members if m in self._begun]
            self._close()
        for member in self._members:
            if member in self._waiting and self._may_leave(member, last=last):
                self._waiting.discard(member)
                return member
        return None

    def origin(self, trial: int) -> int | None:
        """The member that a copy goes on from; a later sitting finds it again by the record."""
        self._close()
        return self._parents.get(trial)

    def _may_leave(self, member: int, *, last: bool) -> bool:
        """Whether nobody has to copy its state as it is now, and it stands at the last generation's end."""
        if max(self._values.get(member, {}), default=0) >= self._generation:
            return False
        copies = [c for c, parent in self._parents.items() if parent == member]
        begun = self._values.keys() | self._gone
        return all(c in begun or (last and c not in self._begun) for c in copies)

    def _close(self) -> None:
        """End generations as long as all who are left have reached the end of one."""
        while True:
            standing = [m for m in self._members if m not in self._gone]
            at = self._generation
            reached = {m: self._at(m, at) for m in standing}
            if not standing or None in reached.values():
                return
            ranked = sorted(standing, key=lambda m: (reached[m] or 0.0, m))
            cut = min(self._replaced, len(ranked) // 2)
            copies = [self._copy(ranked[:cut]) for _ in range(cut)]
            self._members = ranked[: len(ranked) - cut] + copies
            self._generation += self._interval

    def _at(self, member: int, step: int) -> float | None:
        """Its value at a step, or at the first one after it that it has reported."""
        told = self._values.get(member, {})
        later = [s for s in told if s >= step]
        return told[min(later)] if later else None

    def _copy(self, best: list[int]) -> int:
        number = len(self._params)
        random = np.random.default_rng([self._seed, number, self._generation])
        parent = best[int(random.integers(len(best)))]
        self._parents[number] = parent
        self._params[number] = perturbed(self._space, self._params[parent], random, self._anew)
        return number


def perturbed(
    space: Space, params: Mapping[str, Any], random: np.random.Generator, drawn_anew: float
) -> Params:
    """Values near the given ones: each drawn anew, or times 0.8 or 1.2 within its range.

    A choice is drawn anew or kept. What exists by such a choice alone is drawn.
    """
    fresh = at_point(space, random.random(len(space.dimensions)))
    found: Params = {}
    for name, dimension in space.dimensions.items():
        anew, factor = random.random() < drawn_anew, _FACTORS[int(random.integers(2))]
        if not space.active(name, found):
            continue
        if name in params and not anew:
            found[name] = _moved(dimension, params[name], factor)
        else:
            found[name] = fresh.get(
                name, at_point(Space(**{name: _bare(dimension)}), [random.random()])[name]
            )
    return found


def _bare(dimension: Dimension) -> Dimension:
    if isinstance(dimension, Choice):
        return Choice(dimension.options)
    return type(dimension)(dimension.low, dimension.high, dimension.log)  # type: ignore[arg-type]


def _moved(dimension: Dimension, value: Any, factor: float) -> Any:
    if isinstance(dimension, Choice):
        return value
    moved = value * factor
    if isinstance(dimension, Int):
        moved = math.floor(moved) if factor < 1 else math.ceil(moved)
    return min(max(moved, dimension.low), dimension.high)
