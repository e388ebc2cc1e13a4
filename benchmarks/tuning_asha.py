"""What stopping early saves: steps until a study of the flights model reports a fixed target.

Knows the race and its target; it does not know how a setting is trained (`tuning_flights`).
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any

import numpy as np
from harness import Claim
from tuning_flights import SPACE, STEPS, losses, sampled, training_set

from rayplat.train.rows import Rows
from rayplat.tuning.caps import Caps
from rayplat.tuning.journal import Journal, Objective
from rayplat.tuning.model_search import TpeSearch
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import RandomSearch, Search
from rayplat.tuning.stopping import Stopper
from rayplat.tuning.study import Sitting

BEST_SHARE = 0.05
TEST_ROWS = 2_000
GRACE = 3
"""The first rung: an 81st of a whole trial."""
KINDS = ("random", "asha_random", "asha_tpe")


class Trained:
    """Networks as far as anybody has asked for them; a setting goes on where it was, as from a checkpoint.

    The same values give the same line, whoever asks: random search and ASHA of one seed train the same
    settings.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept: dict[tuple[Any, ...], tuple[list[float], Iterator[float]]] = {}

    def loss(self, params: Mapping[str, Any], step: int) -> float:
        """After the step, from 1."""
        key = tuple(sorted(params.items()))
        if key not in self._kept:
            seed = abs(hash(tuple(round(float(v), 12) for _, v in key))) % 2**31
            self._kept[key] = [], losses(self._rows, params, seed)
        line, ahead = self._kept[key]
        while len(line) < step:
            line.append(next(ahead))
        return line[step - 1]


def to_target(
    trained: Trained, target: float, search: Callable[[int], Search], stopper: Stopper | None
) -> tuple[int, int]:
    """Steps spent over all trials until one reports the target, and trials begun; they come without end."""
    spent, reached, begun = 0, False, 0
    done: dict[int, int] = {}

    def tried(trial: Any) -> float:
        nonlocal spent, reached, begun
        begun = max(begun, trial.number + 1)
        value = math.inf
        for step in range(done.get(trial.number, 0) + 1, STEPS + 1):
            if reached:
                break
            value = trained.loss(trial.params, step)
            spent, done[trial.number] = spent + 1, step
            reached = value <= target
            trial.report(value, step, last=step == STEPS or reached)
        return value

    with tempfile.TemporaryDirectory() as folder:
        trials = 0
        while not reached:  # the same study goes on under a higher cap
            trials += 10
            journal = Journal(f"sqlite:///{folder}/s.db", "race", "flights", [Objective("loss")])
            pool = LocalPool(tried, steps=stopper is not None)
            Sitting(journal, search, pool, Caps(trials=trials), stopper=stopper).run()
            journal.close()
    return spent, begun


_ROWS: dict[str, Rows] = {}


def _begin(rows: Rows) -> None:
    """In each process, once."""
    import torch

    torch.set_num_threads(1)
    _ROWS["all"] = rows


def _best_loss(number: int) -> float:
    """Of a setting apart from those that race."""
    params = RandomSearch(SPACE, 10**6).ask(number)
    trained = Trained(_ROWS["all"])
    return min(trained.loss(params, step) for step in range(1, STEPS + 1))


def _race(task: tuple[int, float]) -> dict[str, int]:
    """Steps to the target by kind, of one seed."""
    seed, target = task
    trained = Trained(_ROWS["all"])

    def by_random(told: int) -> Search:
        return RandomSearch(SPACE, seed)

    def by_tpe(told: int) -> Search:
        return TpeSearch(SPACE, seed=seed, told=told)

    searches = dict(zip(KINDS, (by_random, by_random, by_tpe), strict=True))
    return {
        kind: to_target(trained, target, search, None if kind == "random" else Asha(grace=GRACE))[0]
        for kind, search in searches.items()
    }


def asha(sample: int, seeds: int, rows: int) -> Claim:
    """The claim `asha_speedup`: ASHA over the same random settings.

    Args:
        sample: settings that the target is taken from.
        rows: of the training set, how many each network is trained on.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    data = sampled(training_set(), rows, TEST_ROWS)
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), initializer=_begin, initargs=(data,)
    ) as processes:
        target = float(np.quantile(list(processes.map(_best_loss, range(sample))), BEST_SHARE))
        lines = list(processes.map(_race, [(seed, target) for seed in range(seeds)]))
    spent = {kind: [line[kind] for line in lines] for kind in KINDS}
    middle = {kind: median(values) for kind, values in spent.items()}
    told = ", ".join(f"{k} {middle[k]:g} ({min(v)}-{max(v)})" for k, v in spent.items())
    note = (
        f"ASHA over random settings; over TPE {middle['random'] / middle['asha_tpe']:.2f}x; steps to loss "
        f"{target:.4f}, {STEPS} a whole trial: {told}; target by {sample} others, {seeds} seeds"
    )
    ratio = middle["random"] / middle["asha_random"]
    return Claim("asha_speedup", "x", [ratio], higher_is_better=True, note=note)
