"""Which values are tried next by a model of what was found: Optuna's TPE, or its Gaussian process.

Knows the space and the trials that have ended or were stopped; it does not know caps or who runs trials.
Optuna is imported when it is first asked.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rayplat.core.project.space import Choice, Dimension, Int, Space
from rayplat.tuning.search import Params


class ModelSearch:
    """A sampler of Optuna's, told of trials as they stand: one that goes on counts by its newest state.

    Args:
        told: how many trials there are already: a later sitting draws other random numbers.
    """

    def __init__(self, space: Space, objectives: int = 1, seed: int = 0, told: int = 0) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna: Any = optuna
        self._space, self._objectives = space, objectives
        self._seeds = [seed, told, 0] if told else [seed]
        self._open: dict[int, Any] = {}
        self._known: dict[int, Any] = {}
        self._stale = False
        self._study: Any = None
        self._renew()

    def sampler(self, seed: int) -> Any:
        """A new sampler of Optuna's."""
        raise NotImplementedError

    def ask(self, number: int) -> Params:
        """What the model proposes, dimension by dimension."""
        if self._stale:
            self._renew()
        trial = self._open[number] = self._study.ask()
        return self._suggest(trial)

    def tell(self, number: int, params: Mapping[str, Any], values: Sequence[float] | None) -> None:
        """Take a trial in, asked here or in an earlier sitting."""
        state = self._optuna.trial.TrialState
        if values is None:
            self._take(number, params, state=state.FAIL)
        else:
            self._take(number, params, state=state.COMPLETE, values=list(values))

    def tell_stopped(self, number: int, params: Mapping[str, Any], reports: Mapping[int, float]) -> None:
        """A pruned trial: TPE ranks it below the complete ones, by how far it came and how it stood there.

        Its last report is no final value: beside those of trials that ended it would count as one, and a
        setting that was stopped early for a poor start would be judged by epochs it never had. Of the
        reports the best so far counts, which is what rungs compare.
        """
        best = np.fmin.accumulate([reports[step] for step in sorted(reports)])
        shown = {step: float(value) for step, value in zip(sorted(reports), best, strict=True)}
        self._take(number, params, state=self._optuna.trial.TrialState.PRUNED, intermediate_values=shown)

    def _take(self, number: int, params: Mapping[str, Any], **result: Any) -> None:
        distributions = {n: self._distribution(self._space.dimensions[n]) for n in params}
        made = self._optuna.trial.create_trial(params=dict(params), distributions=distributions, **result)
        replaced = number in self._known
        self._known[number] = made
        asked = self._open.pop(number, None)
        if replaced:  # Optuna changes no trial that has ended
            self._stale = True
        elif asked is None:
            self._study.add_trial(made)
        else:
            for step, value in made.intermediate_values.items():
                asked.report(value, step)
            self._study.tell(asked, result.get("values"), state=result["state"])

    def _renew(self) -> None:
        """A study of all trials as they stand now; those that run are among them."""
        if self._study is not None:
            self._seeds = [*self._seeds[:2], len(self._known), len(self._open)]
        plain = len(self._seeds) == 1
        seed = self._seeds[0] if plain else int(np.random.SeedSequence(self._seeds).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its options are stable for us: their names are pinned
            sampler = self.sampler(seed)
        study = self._optuna.create_study(sampler=sampler, directions=["minimize"] * self._objectives)
        study.add_trials(self._known.values())
        for number, running in self._open.items():
            study.enqueue_trial(running.params)
            self._open[number] = again = study.ask()
            self._suggest(again)
        self._study, self._stale = study, False

    def _suggest(self, trial: Any) -> Params:
        params: Params = {}
        for name, dimension in self._space.dimensions.items():
            if self._space.active(name, params):
                params[name] = _suggested(trial, name, dimension)
        return params

    def _distribution(self, dimension: Dimension) -> Any:
        made = self._optuna.distributions
        if isinstance(dimension, Choice):
            return made.CategoricalDistribution(dimension.options)
        kind = made.IntDistribution if isinstance(dimension, Int) else made.FloatDistribution
        return kind(dimension.low, dimension.high, log=dimension.log)


class TpeSearch(ModelSearch):
    """Optuna's TPE, multivariate; trials that still run count as bad, so that workers differ."""

    def sampler(self, seed: int) -> Any:
        """Grouped where dimensions are conditional: Optuna models each group that exists together."""
        return self._optuna.samplers.TPESampler(
            seed=seed,
            multivariate=True,
            group=any(d.when for d in self._space.dimensions.values()),
            constant_liar=self._objectives == 1,
        )


class GpSearch(ModelSearch):
    """Optuna's Gaussian process: needs fewer trials than TPE, and longer for each proposal.

    It learns from complete trials alone, and draws conditional dimensions at random.
    """

    def sampler(self, seed: int) -> Any:
        """With expected improvement."""
        return self._optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def _suggested(trial: Any, name: str, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, dimension.options)
    suggest = trial.suggest_int if isinstance(dimension, Int) else trial.suggest_float
    return suggest(name, dimension.low, dimension.high, log=dimension.log)
