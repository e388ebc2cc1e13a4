"""How many trials a search needs, beside Optuna's samplers: three functions, and trees on real flights.

Knows the functions and how many trials each search gets; it does not know how long a proposal takes.
"""

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
from harness import Claim
from tuning_flights import sampled, training_set

from rayplat.core.project.space import Choice, Float, Int, Space
from rayplat.train.rows import Rows
from rayplat.tuning.caps import Caps
from rayplat.tuning.model_study import Options, search_of

PEERS = ("tpe", "tpe_multivariate_group", "gp", "random")
"""Optuna's: TPE as it comes and with its options for dependent dimensions, a Gaussian process, at random."""


def branin(p: Mapping[str, Any]) -> float:
    x, y = 15 * p["x0"] - 5, 15 * p["x1"]
    a = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return a * a + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887


_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
     [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
)  # fmt: skip


def hartmann6(p: Mapping[str, Any]) -> float:
    x = np.array([p[f"x{i}"] for i in range(6)])
    return float(3.32237 - np.array([1, 1.2, 3, 3.2]) @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def conditional(p: Mapping[str, Any]) -> float:
    """Two optimizers with dimensions of their own, the better one harder to set; 0 at its best."""
    if p["optimizer"] == "adamw":
        return 0.2 + (math.log10(p["adamw_lr"]) + 3) ** 2 / 4 + (p["decay"] - 0.3) ** 2
    rate, momentum = math.log10(p["sgd_lr"]) + 1, p["momentum"]
    return rate**2 / 2 + 4 * (momentum - 0.9 + rate / 5) ** 2


@cache
def _rows() -> Rows:
    return sampled(training_set(), 3000, 3000)


def flights_trees(p: Mapping[str, Any]) -> float:
    """The log loss of gradient-boosted trees on flights later than those that they were fitted to."""
    from lightgbm import LGBMClassifier
    from sklearn.metrics import log_loss

    rows = _rows()
    model = LGBMClassifier(
        n_estimators=30,
        learning_rate=p["learning_rate"],
        num_leaves=p["num_leaves"],
        min_child_samples=p["min_child_samples"],
        reg_lambda=p["reg_lambda"],
        colsample_bytree=p["colsample"],
        n_jobs=1,
        random_state=0,
        verbose=-1,
    )
    model.fit(rows.x_train, rows.y_train)
    return float(log_loss(rows.y_test, model.predict_proba(rows.x_test)[:, 1]))


FUNCTIONS: dict[str, tuple[Callable[[Mapping[str, Any]], float], Space]] = {
    "branin": (branin, Space(**{f"x{i}": Float(0, 1) for i in range(2)})),
    "hartmann6": (hartmann6, Space(**{f"x{i}": Float(0, 1) for i in range(6)})),
    "conditional": (
        conditional,
        Space(
            optimizer=Choice(("adamw", "sgd")),
            adamw_lr=Float(1e-6, 1.0, log=True, when={"optimizer": "adamw"}),
            decay=Float(0, 1, when={"optimizer": "adamw"}),
            sgd_lr=Float(1e-6, 10.0, log=True, when={"optimizer": "sgd"}),
            momentum=Float(0, 1, when={"optimizer": "sgd"}),
        ),
    ),
    "flights_trees": (
        flights_trees,
        Space(
            learning_rate=Float(1e-3, 1.0, log=True),
            num_leaves=Int(2, 64, log=True),
            min_child_samples=Int(1, 200, log=True),
            reg_lambda=Float(1e-3, 1e3, log=True),
            colsample=Float(0.1, 1.0),
        ),
    ),
}


def ours(name: str, seed: int, trials: int) -> list[float]:
    """The values of rayplat's default search, in order."""
    function, space = FUNCTIONS[name]
    search = search_of(space, Options(Caps(trials=trials), seed=seed))(0)
    values = []
    for number in range(trials):
        params = search.ask(number)
        assert params is not None
        values.append(function(params))
        search.tell(number, params, [values[-1]])
    return values


def theirs(name: str, seed: int, trials: int, kind: str) -> list[float]:
    """The values of one of Optuna's samplers, asked as its documentation does."""
    import optuna

    function, space = FUNCTIONS[name]
    made = optuna.samplers
    sampler = {
        "random": lambda: made.RandomSampler(seed=seed),
        "tpe": lambda: made.TPESampler(seed=seed),
        "tpe_multivariate_group": lambda: made.TPESampler(seed=seed, multivariate=True, group=True),
        "gp": lambda: made.GPSampler(seed=seed, warn_independent_sampling=False),
    }[kind]()

    def objective(trial: Any) -> float:
        params: dict[str, Any] = {}
        for n, d in space.dimensions.items():
            if not space.active(n, params):
                continue
            if isinstance(d, Choice):
                params[n] = trial.suggest_categorical(n, d.options)
            else:
                suggest = trial.suggest_int if isinstance(d, Int) else trial.suggest_float
                params[n] = suggest(n, d.low, d.high, log=d.log)
        return function(params)

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return [t.value for t in study.trials]


def _one(task: tuple[str, int, int, str]) -> list[float]:
    """In a process of its own."""
    import logging
    import warnings

    import optuna
    import torch

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    name, seed, trials, kind = task
    values = ours(name, seed, trials) if kind == "ours" else theirs(name, seed, trials, kind)
    return [float(v) for v in np.minimum.accumulate(values)]


def ratio_of(ours: np.ndarray[Any, Any], peer: np.ndarray[Any, Any]) -> float:
    """Trials that the peer needs over trials that ours needs to the worse of the two last values.

    Args:
        ours, peer: the median best value so far by trial. What both reach is what can be compared.
    """
    target = max(ours[-1], peer[-1])
    return float((int(np.argmax(peer <= target)) + 1) / (int(np.argmax(ours <= target)) + 1))


def efficiency(trials: int, seeds: int) -> Claim:
    """The claim `sample_efficiency`: against the best peer of each function, the worst function counts."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kinds = ("ours", *PEERS)
    tasks = [(name, seed, trials, kind) for name in FUNCTIONS for kind in kinds for seed in range(seeds)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as processes:
        lines = dict(zip(tasks, processes.map(_one, tasks), strict=True))
    found, notes = [], []
    for name in FUNCTIONS:
        medians = {
            kind: np.median([lines[name, seed, trials, kind] for seed in range(seeds)], axis=0)
            for kind in kinds
        }
        best = min(PEERS, key=lambda kind: medians[kind][-1])
        ratios = {kind: ratio_of(medians["ours"], medians[kind]) for kind in PEERS}
        found.append(ratios[best])
        told = ", ".join(f"{kind} {medians[kind][-1]:.4g} ({ratio:.2f}x)" for kind, ratio in ratios.items())
        notes.append(f"{name} after {trials}: ours {medians['ours'][-1]:.4g}; {told}; best {best}")
    mean = math.prod(found) ** (1 / len(found))
    note = (
        f"geometric mean {mean:.2f}x; medians of {seeds} seeds; in brackets the peer's trials over ours; "
        + "; ".join(notes)
    )
    return Claim("sample_efficiency", "x", [min(found)], higher_is_better=True, note=note)
