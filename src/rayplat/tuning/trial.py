"""One trial as the tried function sees it, and how a function is called with it.

Knows parameters, reports and the end of a trial; it does not know what is searched or where it runs.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayplat.core.errors import UserError

Report = tuple[int, float]


class TrialStoppedError(Exception):
    """Raised by `report` in a trial that is not worth going on with; let it pass."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a trial came to.

    Attributes:
        state: `complete`, `stopped` or `failed`.
        values: one for each objective; the last report of a trial that was stopped.
        reports: (step from 1, value), those that have not been told before.
        error: of a trial that failed.
    """

    number: int
    state: str
    values: tuple[float, ...] = ()
    reports: tuple[Report, ...] = ()
    seconds: float = 0.0
    error: str = ""


class Trial:
    """What the tried function gets.

    Attributes:
        number: from 0, in the order of the study.
        params: the values to try, by name.
    """

    def __init__(self, number: int, params: Mapping[str, Any], heard: Callable[[Report], bool]) -> None:
        self.number = number
        self.params = dict(params)
        self.last: float | None = None
        self._heard = heard
        self._step = 0

    def report(self, value: float, step: int | None = None) -> None:
        """Tell a value on the way, such as the loss after an epoch; steps count from 1.

        Raises:
            TrialStoppedError: the trial is not worth going on with.
            UserError: a step below 1.
        """
        self._step = self._step + 1 if step is None else step
        if self._step < 1:
            raise UserError(f"a trial reports step {self._step}", "count steps from 1")
        self.last = float(value)
        if not self._heard((self._step, self.last)):
            raise TrialStoppedError(f"trial {self.number} is stopped at step {self._step}")


Tried = Callable[[Trial], float | Sequence[float]]


def carry_out(tried: Tried, number: int, params: Mapping[str, Any], heard: Callable[[Report], bool]) -> Ended:
    """Call the function once; an exception of its own makes a failed trial, not a failed study."""
    begin = time.perf_counter()
    trial = Trial(number, params, heard)
    try:
        value = tried(trial)
    except TrialStoppedError:
        last = () if trial.last is None else (trial.last,)
        return Ended(number, "stopped", last, (), time.perf_counter() - begin)
    except Exception as error:  # the project's code may raise anything
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        return Ended(number, "failed", (), (), time.perf_counter() - begin, text)
    values = (value,) if isinstance(value, int | float) else tuple(value)
    return Ended(number, "complete", tuple(float(v) for v in values), (), time.perf_counter() - begin)
