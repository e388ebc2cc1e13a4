"""A circuit breaker: after many failures ask something else for a while, then try carefully.

Knows counts and times; it does not know what is asked, nor what stands in for it. Pure: the clock is an
argument. The states are those of Nygard, Release It!, 2nd edition, chapter 5.
"""

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens and closes.

    Attributes:
        failed_share: so much of the calls of a window must have failed.
        least_calls: so many calls must have been made in it.
        window_s: how long calls are counted.
        open_s: how long nothing is tried.
        trials: so many calls must succeed one after the other before it closes.
    """

    failed_share: float = 0.5
    least_calls: int = 20
    window_s: float = 10.0
    open_s: float = 5.0
    trials: int = 3


@dataclass(frozen=True, slots=True)
class Breaker:
    """A state of the breaker; every change is another value.

    Attributes:
        since: when the state or its window began, s.
        calls, failures: within the window.
        trying: trials that are under way.
        succeeded: trials that went well.
    """

    rule: Rule = Rule()
    state: State = "closed"
    since: float = 0.0
    calls: int = 0
    failures: int = 0
    trying: int = 0
    succeeded: int = 0

    def ask(self, now: float) -> tuple["Breaker", bool]:
        """The state after a question, and whether to call (True) or to fall back (False)."""
        if self.state == "closed":
            return self, True
        if self.state == "open":
            if now - self.since < self.rule.open_s:
                return self, False
            return Breaker(self.rule, "half_open", now, trying=1), True
        if self.trying + self.succeeded < self.rule.trials:
            return replace(self, trying=self.trying + 1), True
        # A trial of which nobody ever told must not keep it half open for ever.
        if now - self.since > self.rule.open_s:
            return Breaker(self.rule, "half_open", now, trying=1), True
        return self, False

    def told(self, good: bool, now: float) -> "Breaker":
        """The state after a call that was made has ended."""
        if self.state == "closed":
            return self._counted(good, now)
        if self.state == "open":
            return self  # a call from before it opened
        if not good:
            return Breaker(self.rule, "open", now)
        succeeded = self.succeeded + 1
        if succeeded >= self.rule.trials:
            return Breaker(self.rule, "closed", now)
        return replace(self, trying=max(0, self.trying - 1), succeeded=succeeded)

    def forgot(self) -> "Breaker":
        """The state after a call that was made and tells nothing, such as one that the caller has spoilt."""
        return replace(self, trying=max(0, self.trying - 1))

    def _counted(self, good: bool, now: float) -> "Breaker":
        fresh = now - self.since > self.rule.window_s
        calls = (0 if fresh else self.calls) + 1
        failures = (0 if fresh else self.failures) + (not good)
        if calls >= self.rule.least_calls and failures >= self.rule.failed_share * calls:
            return Breaker(self.rule, "open", now)
        return Breaker(self.rule, "closed", now if fresh else self.since, calls, failures)
