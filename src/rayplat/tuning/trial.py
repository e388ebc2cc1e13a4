"""One trial as the tried function sees it, and how a function is called with it.

Knows parameters, reports, kept state and the end of a trial; it does not know what is searched or where it
runs.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayplat.core.errors import UserError
from rayplat.tuning.states import load_state, save_state

Report = tuple[int, float]


class TrialStoppedError(Exception):
    """Raised by `report` in a trial that is not worth going on with now; let it pass."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a trial begins with.

    Attributes:
        number: from 0, in the order of the study.
        params: the values to try, by name.
        uri: where the trial keeps what it needs to go on; empty: nowhere.
        origin: where the trial that this one goes on from keeps its state; empty: it begins anew.
    """

    number: int
    params: Mapping[str, Any] = field(default_factory=dict)
    uri: str = ""
    origin: str = ""


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
        uri: the folder that is this trial's own, for a function that keeps more than a report is meant for.
        origin: the folder of the trial that this one goes on from (population-based training), or empty.
    """

    def __init__(self, start: Start, heard: Callable[[Report], bool]) -> None:
        self.number, self.uri, self.origin = start.number, start.uri, start.origin
        self.params = dict(start.params)
        self.last: float | None = None
        self.unasked: list[Report] = []
        self._heard = heard
        self._step: int | None = None

    def report(
        self, value: float, step: int | None = None, *, last: bool = False, state: bytes | None = None
    ) -> None:
        """Tell a value on the way, such as the loss after an epoch; steps count from 1.

        Args:
            step: the one after the last, or after that of the state that was loaded, where it is not given.
            last: nothing comes after it, so it stops nothing.
            state: what the trial needs to go on after this step. A trial that is stopped may go on later, on
                another worker and in another sitting; one that keeps nothing begins again then.

        Raises:
            TrialStoppedError: the trial is not worth going on with now.
            UserError: a step below 1.
        """
        self._step = (self._step or 0) + 1 if step is None else step
        if self._step < 1:
            raise UserError(f"a trial reports step {self._step}", "count steps from 1")
        self.last = float(value)
        if state is not None and self.uri:
            save_state(self.uri, self._step, state, self.last)
        if last:
            self.unasked.append((self._step, self.last))
        else:
            self._ask()

    def _ask(self) -> None:
        if self._step is None or self.last is None:
            return
        if not self._heard((self._step, self.last)):
            raise TrialStoppedError(f"trial {self.number} is stopped at step {self._step}")

    def load(self) -> bytes | None:
        """What this trial kept last, or the one that it goes on from; None where it begins anew.

        What it reported with that is told again: a kill may have come between the two.

        Raises:
            TrialStoppedError: it was to be stopped there.
        """
        found = load_state(self.uri)
        if found is not None:
            self._step, self.last, state = found
            self._ask()
            return state
        found = load_state(self.origin)
        if found is None:
            return None
        self._step, _, state = found
        return state


Tried = Callable[[Trial], float | Sequence[float]]


def carry_out(tried: Tried, start: Start, heard: Callable[[Report], bool]) -> Ended:
    """Call the function once; an exception of its own makes a failed trial, not a failed study."""
    begin = time.perf_counter()
    number, trial = start.number, Trial(start, heard)
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
    told = tuple(float(v) for v in values)
    return Ended(number, "complete", told, tuple(trial.unasked), time.perf_counter() - begin)
