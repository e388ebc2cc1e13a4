"""Keeps the accounts of a group while it trains, from what its members say and what becomes of them.

Knows what each message means for the accounts, and writes the report down now and then; it does not know how
members are told apart from the outside, or what is done with the report.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rayplat.core.telemetry import get_logger
from rayplat.train.goodput.accounts import Accounts
from rayplat.train.goodput.curves import Curves
from rayplat.train.goodput.report import GoodputReport, keep_report, kept_report
from rayplat.train.goodput.spending import NS, Spending, Spent

_KEEP_EVERY_NS = 5 * NS
_DOING = {
    "ready": Spent.IDLE,
    "training": Spent.PRODUCTIVE,
    "step": Spent.PRODUCTIVE,
    "report": Spent.PRODUCTIVE,
    "waiting": Spent.RESTART,
    "failed": Spent.RECOMPUTE,
}


class Bookkeeper:
    """One run's accounts, over all calls of it.

    Args:
        run_uri: where the report is kept while the run lives; empty: nowhere.
        clock: whole nanoseconds, never going back.
    """

    def __init__(self, run_uri: str = "", clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._uri, self._clock = run_uri, clock
        found = kept_report(run_uri) if run_uri else None
        self._number, before = found or (0, GoodputReport("", Spending()))
        self._accounts = Accounts(before.spending)
        self._curves = Curves(before.system)
        self._doing: dict[str, Spent] = {}
        self._losses, self._worlds = before.losses, list(before.worlds)
        self._begun = self._kept = clock()
        self.furthest = before.furthest
        """The steps that the run has had, also those that it lost since."""

    def began(self, member: str) -> None:
        """A member's process was asked for."""
        self._accounts.began(member, self._clock())
        self._doing[member] = Spent.RESTART

    def formed(self, world: int) -> None:
        """A generation of so many has begun."""
        self._worlds.append(world)

    def heard(self, member: str, message: Mapping[str, Any]) -> None:
        """A member has said something."""
        if member not in self._doing:
            return
        self._doing[member] = _DOING.get(message["say"], self._doing[member])
        if "spent" in message:
            self._accounts.told(member, Spending.of_json(message["spent"]))
        if message["say"] == "system":
            self._curves.add((self._clock() - self._begun) / NS, message["metrics"])
        self.furthest = max(self.furthest, int(message.get("step", 0)))

    def lost(self, member: str) -> None:
        """A member is gone; what it had in work goes with it."""
        doing = self._doing.pop(member, Spent.RESTART)
        self._losses += 1
        lost = Spent.RECOMPUTE if doing is Spent.PRODUCTIVE else doing
        self._accounts.ended(member, self._clock(), lost)

    def left(self, member: str) -> None:
        """A member has left between two steps, or the run is over."""
        self._accounts.ended(member, self._clock(), self._doing.pop(member, Spent.IDLE))

    def look(self) -> None:
        """Write the report down where it is time to."""
        if self._uri and self._clock() - self._kept >= _KEEP_EVERY_NS:
            self._keep()

    def close(self) -> None:
        """The run is over, for this call: everybody has left."""
        for member in list(self._doing):
            self.left(member)
        if self._uri:
            self._keep()

    def report(self) -> GoodputReport:
        """The report as it is now."""
        return GoodputReport(
            run=self._uri.rstrip("/").rpartition("/")[2],
            spending=self._accounts.spent(self._clock(), self._doing),
            furthest=self.furthest,
            losses=self._losses,
            worlds=tuple(self._worlds),
            system=self._curves.points(),
        )

    def _keep(self) -> None:
        self._kept = self._clock()
        self._number += 1
        try:
            keep_report(self._uri, self._number, self.report())
        except OSError as error:  # a full disk must not end a run for the sake of its report
            get_logger("train.goodput").warning("report_not_kept", reason=str(error))
