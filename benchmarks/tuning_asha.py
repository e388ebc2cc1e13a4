"""What stopping early saves: how soon ASHA is where random search ends, on a model of real flights.

Knows the race, its budget and its target; it does not know how a setting is trained (`tuning_flights`).

The set-up is what a user has who calls `rayplat tune`. It is the second: the first cut random search at its
budget, and was replaced after its run (ASHA was 1.27 times as fast there):

- space: as wide as somebody gives it who knows nothing (learning rate and weight decay over five and six
  decades, any depth and width), so most settings are bad;
- settings: 500 drawn from it, each trained to its end once. A seed draws from these, without end and with
  repetition; random search and ASHA of a seed get the same settings in the same order;
- budget: 50 whole trials, as many as `rayplat tune` runs where nothing is said;
- target: what random search reaches with it, the median over all its draws: nobody chose it. That is the best
  1 - 0.5 ** (1 / 50) = 1.4 % of the settings;
- ASHA: as `--stopper asha` makes it, reduction 4 and a first rung at the first report. A trial has 64
  reports, so the first rung is a 64th of it; at a 256th the largest batch size would not have taken a step;
- cost is counted in reports (a 64th of a trial's steps) over all trials, by one worker, until one is as good
  as the target;
- seeds 100 to 109, by whole sittings. A median of ten such times may be off by a factor of 1.5, so the note
  holds a thousand further seeds, by the same rule without a database.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from rayplat.tuning.pool import LocalPool
from rayplat.tuning.promotion import Asha
from rayplat.tuning.search import RandomSearch
from rayplat.tuning.study import Sitting

TRIALS = 50
"""Whole trials that the budget pays for."""
SETTINGS, SEEDS, FURTHER = 500, range(100, 110), 1000
DRAWN_WITH = 2013
ROWS, TEST_ROWS = 12_000, 2_000

Lines = np.ndarray[Any, np.dtype[np.float64]]
"""The loss by setting and report."""

_ROWS: dict[str, Rows] = {}


def _begin(rows: Rows) -> None:
    """In each process, once."""
    import torch

    torch.set_num_threads(1)
    _ROWS["all"] = rows


def _line(number: int) -> list[float]:
    """A setting's loss by report."""
    return list(losses(_ROWS["all"], RandomSearch(SPACE, DRAWN_WITH).ask(number), seed=number))


def recorded(settings: int, rows: int) -> Lines:
    """So many settings, each trained to its end."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    data = sampled(training_set(), rows, TEST_ROWS)
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), initializer=_begin, initargs=(data,)
    ) as processes:
        return np.array(list(processes.map(_line, range(settings))))


def draws(seed: int, settings: int) -> Iterator[int]:
    """The settings that a seed tries, without end."""
    random = np.random.default_rng(seed)
    while True:
        yield int(random.integers(settings))


def by_random(lines: Lines, target: float, seed: int) -> int:
    """The cost until a report is as good as the target, whole trial after whole trial."""
    spent = 0
    for setting in draws(seed, len(lines)):
        good = np.flatnonzero(lines[setting] <= target)
        if len(good):
            return spent + int(good[0]) + 1
        spent += STEPS
    raise AssertionError("draws have no end")


def by_rule(lines: Lines, target: float, seed: int) -> int:
    """The same by ASHA's rule alone: trials that go on come before new ones."""
    asha, settings, drawn = Asha(), draws(seed, len(lines)), list[int]()
    came: list[int] = []
    spent = 0
    while True:
        trial = asha.again(last=False)
        if trial is None:
            trial = len(drawn)
            drawn.append(next(settings))
            came.append(0)
        goes_on = True
        while goes_on and came[trial] < STEPS:
            value = float(lines[drawn[trial]][came[trial]])
            came[trial], spent = came[trial] + 1, spent + 1
            if value <= target:
                return spent
            goes_on = came[trial] == STEPS or asha.goes_on(trial, came[trial], value)
        asha.ended(trial, "complete" if came[trial] == STEPS else "stopped")


class _Drawn(RandomSearch):
    """Proposes the settings that a seed draws, by their numbers."""

    def __init__(self, seed: int, settings: int) -> None:
        super().__init__(SPACE, seed)
        self._draws = draws(seed, settings)

    def ask(self, number: int) -> dict[str, Any]:
        """The next one."""
        return {"setting": next(self._draws)}


def by_sitting(lines: Lines, target: float, seed: int) -> int:
    """The same by a whole sitting over a study: every report is asked, answered and made durable."""
    spent, found = 0, False
    done: dict[int, int] = {}

    def tried(trial: Any) -> float:
        nonlocal spent, found
        value = math.inf
        for step in range(done.get(trial.number, 0) + 1, STEPS + 1):
            if found:
                break
            value = float(lines[trial.params["setting"]][step - 1])
            spent, done[trial.number] = spent + 1, step
            found = value <= target
            trial.report(value, step, last=step == STEPS)
        return value

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(f"sqlite:///{folder}/s.db", "race", "flights", [Objective("loss")])
        search = _Drawn(seed, len(lines))
        pool = LocalPool(tried, steps=True)
        clock: Callable[[], float] = lambda: float(found)  # noqa: E731  # its one second ends the study
        Sitting(journal, lambda told: search, pool, Caps(seconds=1), stopper=Asha(), clock=clock).run()
        journal.close()
    return spent


def _told(costs: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(
        f"{kind} {median(found):g} (quartiles {np.quantile(found, 0.25):g}-{np.quantile(found, 0.75):g})"
        for kind, found in costs.items()
    )


def asha(settings: int = SETTINGS, seeds: Sequence[int] = SEEDS, rows: int = ROWS) -> Claim:
    """The claim `asha_speedup`: random search's median cost to the target by that of ASHA.

    Args:
        settings: how many are trained to their end.
        rows: of the training set, how many each network is trained on.
    """
    lines = recorded(settings, rows)
    target = float(np.quantile(lines.min(axis=1), 1 - 0.5 ** (1 / TRIALS)))
    costs = {
        "random": [by_random(lines, target, seed) for seed in seeds],
        "asha": [by_sitting(lines, target, seed) for seed in seeds],
    }
    further = range(1000, 1000 + FURTHER)
    many = {
        "random": [by_random(lines, target, seed) for seed in further],
        "asha": [by_rule(lines, target, seed) for seed in further],
    }
    ratio, of_many = (median(c["random"]) / median(c["asha"]) for c in (costs, many))
    note = (
        f"cost in reports, {STEPS} a whole trial, to loss {target:.4f}, what the best of {TRIALS} of "
        f"{settings} settings comes to; {_told(costs)}; {FURTHER} further seeds {of_many:.2f}x: {_told(many)}"
    )
    return Claim("asha_speedup", "x", [ratio], higher_is_better=True, note=note)
