"""Where the workers of an elastic trial come from: the trial's own process, and places lent by the study.

Knows how many places the trial may have now, takes new ones and gives them back; it does not know who decides
how many (`shares`), or what a worker does in one (`train.elastic`).
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rayplat.core.telemetry import get_logger
from rayplat.train.elastic.slots import Processes

_OWN = 0
_END_WITHIN_S = 15.0


class OnePlace(Processes, Protocol):
    """Room for one worker, as `Slots` makes it with `most=1`."""

    def close(self) -> None:
        """End the worker, and give the room back."""


class OwnPlace:
    """The trial's own process as a place: its worker is a thread, so a trial on one worker starts none.

    A thread cannot be ended by force. One that hangs takes the process with it, and the trial is tried
    again elsewhere, from its last checkpoint.

    Args:
        train: trains as the member of this id until its run is over.
        end_process: ends this process at once.
        end_within_s: a worker that is to end and has not after so long hangs.
    """

    def __init__(
        self,
        train: Callable[[str], None],
        end_process: Callable[[], None],
        end_within_s: float = _END_WITHIN_S,
    ) -> None:
        self._train, self._end_process, self._end_within_s = train, end_process, end_within_s
        self._member, self._thread = "", threading.Thread()

    def fill(self) -> list[tuple[str, int]]:
        """Start the worker where there is none."""
        if self._member:
            return []
        self._member = f"own-{secrets.token_hex(3)}"
        self._thread = threading.Thread(
            target=self._train, args=(self._member,), daemon=True, name=self._member
        )
        self._thread.start()
        return [(self._member, _OWN)]

    def promote(self, member: str) -> int | None:
        """There are no standbys."""
        return _OWN if member == self._member else None

    def ended(self) -> list[str]:
        """The worker, when its thread has come to its end."""
        return [self._member] if self._member and not self._thread.is_alive() else []

    def why(self, member: str) -> str:
        """Its thread tells all it knows to the controller itself."""
        return ""

    def awaited(self) -> list[str]:
        """A thread is there at once."""
        return []

    def renew(self, member: str) -> None:
        """There is no reservation to be made anew."""

    def leaving(self) -> dict[str, float]:
        """With its node the trial's process goes, too, and the trial is run again elsewhere."""
        return {}

    def forget(self, member: str) -> None:
        """The worker is gone, or has to be."""
        self.wait()
        self._member = ""

    def release(self, member: str) -> None:
        """As `forget`."""
        self.forget(member)

    def close(self) -> None:
        """It ends by itself, when the controller hangs up."""

    def wait(self) -> None:
        """Wait until the thread has ended; if it does not, the process does."""
        if self._member:
            self._thread.join(self._end_within_s)
            if self._thread.is_alive():
                get_logger("tuning").error("trial_hangs", member=self._member)
                self._end_process()


@dataclass(slots=True)
class _Taken:
    """A place that the trial has: the worker in it, whether that trains, and whether it goes back."""

    room: OnePlace
    member: str = ""
    trains: bool = False
    returning: bool = False


class TrialPlaces:
    """The places of one trial: its own, and as many lent ones as it may have now.

    A lent place goes back as soon as fewer are allowed: one without a training worker at once, one with such
    a worker when that has left its group at the end of a step.

    Args:
        own: never given back.
        lend: reserves a further place.
        allowed: how many places the trial may have now, its own counted.
        least: with so many it begins; the others are lent to it while it trains, so that nobody waits for
            their processes.
    """

    def __init__(
        self, own: OnePlace, lend: Callable[[], OnePlace], allowed: Callable[[], int], least: int = 1
    ) -> None:
        self._lend, self._allowed, self._least = lend, allowed, least
        self._taken = {_OWN: _Taken(own)}
        self._ended_here: dict[str, str] = {}

    def fill(self) -> list[tuple[str, int]]:
        """Take or give back places, and start workers where there is room."""
        allowed = max(self._allowed(), 1)
        if not self._taken[_OWN].trains:
            allowed = min(allowed, self._least)
        self._give_back(sum(not one.returning for one in self._taken.values()) - allowed)
        while len(self._taken) < allowed:
            number = next(n for n in range(allowed) if n not in self._taken)
            self._taken[number] = _Taken(self._lend())
        started = []
        for number, one in self._taken.items():
            for member, _ in one.room.fill():
                one.member, one.trains = member, False
                started.append((member, number))
        return started

    def _give_back(self, count: int) -> None:
        """So many places: first those that nobody trains in, of these the newest."""
        staying = [(one.trains, -n) for n, one in self._taken.items() if n != _OWN and not one.returning]
        for trains, number in sorted(staying)[: max(count, 0)]:
            one = self._taken[-number]
            one.returning = trains
            if not trains:
                if one.member:
                    self._ended_here[one.member] = "its place was given back before it trained"
                    one.room.forget(one.member)
                self._taken.pop(-number).room.close()

    def trains(self, member: str) -> None:
        """The worker has joined the group."""
        number = self._number_of(member)
        if number is not None:
            self._taken[number].trains = True

    def promote(self, member: str) -> int | None:
        """There are no standbys: each worker has its place."""
        return self._number_of(member)

    def ended(self) -> list[str]:
        """Workers that came to their end, or were ended when their place went back."""
        return [*self._ended_here, *(m for one in self._taken.values() for m in one.room.ended())]

    def why(self, member: str) -> str:
        """What is known of a worker's end."""
        number = self._number_of(member)
        return self._ended_here.get(member, "") if number is None else self._taken[number].room.why(member)

    def awaited(self) -> list[str]:
        """Workers whose process has not come yet."""
        return [m for one in self._taken.values() for m in one.room.awaited()]

    def renew(self, member: str) -> None:
        """The worker's process does not come: its place is made anew."""
        number = self._number_of(member)
        if number is not None:
            self._taken[number].room.renew(member)
            self._emptied(number)

    def leaving(self) -> dict[str, float]:
        """Workers whose node is to go, and those whose place goes back: of these, nobody says when."""
        found = {m: by for one in self._taken.values() for m, by in one.room.leaving().items()}
        return found | {one.member: 0.0 for one in self._taken.values() if one.returning and one.member}

    def forget(self, member: str) -> None:
        """A worker is gone, or is to be."""
        self._ended_here.pop(member, None)
        number = self._number_of(member)
        if number is not None:
            self._taken[number].room.forget(member)
            self._emptied(number)

    def release(self, member: str) -> None:
        """A worker has left its group: its place is given back, or reserved anew where its node goes."""
        number = self._number_of(member)
        if number is not None:
            one = self._taken[number]
            (one.room.forget if one.returning else one.room.release)(member)
            self._emptied(number)

    def close(self) -> None:
        """Give all places back."""
        for one in self._taken.values():
            one.room.close()

    def _emptied(self, number: int) -> None:
        one = self._taken[number]
        one.member, one.trains = "", False
        if one.returning:
            self._taken.pop(number).room.close()

    def _number_of(self, member: str) -> int | None:
        return next((n for n, one in self._taken.items() if one.member == member), None)
