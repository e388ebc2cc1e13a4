"""How many workers each running trial may have, of those that a study has.

Knows who runs, in which order they came and what each can use; it does not know Ray, or how a worker joins
or leaves a trial (`group_places`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a running trial can use: at least and at most so many workers."""

    trial: int
    least: int
    most: int


def shares(places: int, wanted: Sequence[Wanted]) -> dict[int, int]:
    """By trial, how many workers it may have now.

    Args:
        places: workers that the study has.
        wanted: the running trials, those first that came first.

    Everybody gets the least that it needs as long as there are places, in the order of their coming; who
    finds none waits with 0. What is left goes, one by one, to whoever has the fewest and can use more.
    """
    given: dict[int, int] = {}
    left = places
    for one in wanted:
        given[one.trial] = one.least if one.least <= left else 0
        left -= given[one.trial]
    while left > 0:
        able = [one for one in wanted if 0 < given[one.trial] < one.most]
        if not able:
            break
        fewest = min(able, key=lambda one: given[one.trial])
        given[fewest.trial] += 1
        left -= 1
    return given


@dataclass
class Desk:
    """Where running trials ask, again and again, how many workers they may have."""

    places: int
    _running: dict[int, Wanted] = field(default_factory=dict)

    def begin(self, wanted: Wanted) -> None:
        """A trial is to run: the others make room for it."""
        self._running[wanted.trial] = wanted

    def leave(self, trial: int) -> None:
        """It has ended, or its process was lost: its workers are free."""
        self._running.pop(trial, None)

    def ask(self, trial: int) -> int:
        """How many workers this trial may have now; 0 where it does not run."""
        return shares(self.places, list(self._running.values())).get(trial, 0)
