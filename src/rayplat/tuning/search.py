"""Which values are tried next: at random or on a grid; by a model of what was found, see `model_search`.

Knows the space alone; it does not know caps or who runs trials.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Dimension, Int, Space

Params = dict[str, Any]


class Search(Protocol):
    """Proposes values, and hears what became of them."""

    def ask(self, number: int) -> Params | None:
        """The values of the trial of this number; None where there are none, for now or for good."""
        ...

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """The values to be minimised that a trial came to; None where it failed."""
        ...

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """What a trial had reported by step, to be minimised, when it was stopped."""
        ...


class RandomSearch:
    """Values drawn at random, a function of the seed and the trial's number alone."""

    def __init__(self, space: Space, seed: int = 0) -> None:
        self._space, self._seed = space, seed

    def ask(self, number: int) -> Params:
        """Draw each dimension that exists."""
        random = np.random.default_rng([self._seed, number])
        return at_point(self._space, random.random(len(self._space.dimensions)))

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """What came of a trial changes no draw."""

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """Nor does what a stopped one reported."""


class GridSearch:
    """Every combination, once; a range is cut into `points` values, evenly on its own scale."""

    def __init__(self, space: Space, points: int = 5) -> None:
        if points < 1:
            raise UserError(f"a grid has {points} points", "give at least 1")
        self.combinations = grid(space, points)

    def ask(self, number: int) -> Params | None:
        """The combination of this number."""
        return dict(self.combinations[number]) if number < len(self.combinations) else None

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """What came of a trial changes no grid."""

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """Nor does what a stopped one reported."""


def at_point(space: Space, point: Sequence[float] | np.ndarray[Any, Any]) -> Params:
    """The values at a point of the unit cube [0, 1)^n, those that do not exist left out."""
    params: Params = {}
    for (name, dimension), at in zip(space.dimensions.items(), point, strict=True):
        if space.active(name, params):
            params[name] = _value(dimension, float(at))
    return params


def _value(dimension: Dimension, at: float) -> Any:
    if isinstance(dimension, Choice):
        return dimension.options[min(int(at * len(dimension.options)), len(dimension.options) - 1)]
    # A whole number owns the half-open interval of width 1 around it.
    half = 0.5 if isinstance(dimension, Int) else 0.0
    low, high = dimension.low - half, dimension.high + half
    if dimension.log:
        value = math.exp(math.log(low) + at * (math.log(high) - math.log(low)))
    else:
        value = low + at * (high - low)
    value = min(max(value, dimension.low), dimension.high)
    return min(max(round(value), dimension.low), dimension.high) if half else value


def grid(space: Space, points: int) -> list[Params]:
    """Every different combination, in the order of declaration."""
    axes = []
    for dimension in space.dimensions.values():
        count = len(dimension.options) if isinstance(dimension, Choice) else points
        axes.append([(at + 0.5) / count for at in range(count)])
    seen: dict[tuple[tuple[str, Any], ...], Params] = {}
    for point in itertools.product(*axes):
        params = at_point(space, point)
        seen.setdefault(tuple(params.items()), params)
    return list(seen.values())
