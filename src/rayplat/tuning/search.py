"""Which values are tried next: at random, on a grid, or by Optuna's tree-structured Parzen estimator.

Knows the space and the trials that have ended; it does not know caps or who runs trials. Optuna is
imported when it is first asked.
"""

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from rayplat.core.errors import UserError
from rayplat.core.project.space import Choice, Dimension, Int, Space

Params = dict[str, Any]


class Search(Protocol):
    """Proposes values, and hears what became of them."""

    def ask(self, number: int) -> Params | None:
        """The values of the trial of this number; None where all have been tried."""
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


class TpeSearch:
    """Optuna's TPE, multivariate; trials that still run count as bad, so that workers differ."""

    def __init__(self, space: Space, objectives: int = 1, seed: int = 0, told: int = 0) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its options are stable for us: their names are pinned
            sampler = optuna.samplers.TPESampler(
                seed=int(np.random.SeedSequence([seed, told]).generate_state(1)[0]),
                multivariate=True,
                group=any(d.when for d in space.dimensions.values()),
                constant_liar=objectives == 1,
            )
        self._optuna: Any = optuna
        self._space = space
        self._study: Any = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
        self._asked: dict[int, Any] = {}

    def ask(self, number: int) -> Params:
        """What TPE proposes, dimension by dimension."""
        trial = self._asked[number] = self._study.ask()
        params: Params = {}
        for name, dimension in self._space.dimensions.items():
            if self._space.active(name, params):
                params[name] = _suggested(trial, name, dimension)
        return params

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """Take a trial in, asked here or in an earlier sitting."""
        state = self._optuna.trial.TrialState
        asked = self._asked.pop(number, None)
        if asked is not None:
            known = None if values is None else list(values)
            self._study.tell(asked, known, state=state.FAIL if known is None else state.COMPLETE)
        elif values is not None:
            self._add(params, values=list(values))

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """A pruned trial: TPE ranks it below the complete ones, by how far it came and how it stood there.

        Its last report is no final value: beside those of trials that ended it would count as one, and a
        setting that was stopped early for a poor start would be judged by epochs it never had.
        """
        state = self._optuna.trial.TrialState.PRUNED
        asked = self._asked.pop(number, None)
        if asked is None:
            self._add(params, state=state, intermediate_values=dict(reports))
            return
        for step, value in reports.items():
            asked.report(value, step)
        self._study.tell(asked, state=state)

    def _add(self, params: Mapping[str, Any], **result: Any) -> None:
        distributions = {n: self._distribution(self._space.dimensions[n]) for n in params}
        self._study.add_trial(
            self._optuna.trial.create_trial(params=dict(params), distributions=distributions, **result)
        )

    def _distribution(self, dimension: Dimension) -> Any:
        made = self._optuna.distributions
        if isinstance(dimension, Choice):
            return made.CategoricalDistribution(dimension.options)
        kind = made.IntDistribution if isinstance(dimension, Int) else made.FloatDistribution
        return kind(dimension.low, dimension.high, log=dimension.log)


def _suggested(trial: Any, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.options)
    suggest = trial.suggest_int if isinstance(dimension, Int) else trial.suggest_float
    return suggest(name, dimension.low, dimension.high, log=dimension.log)


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
