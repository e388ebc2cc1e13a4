"""The arms of an endpoint put together from what was declared and which versions there are.

Knows which part asks which; it does not know how a version is loaded, nor where predictions are logged.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rayplat.core.project.serving import Traffic
from rayplat.serve.admission.breaker import Rule
from rayplat.serve.arms.arms import Arms
from rayplat.serve.arms.fallback import default, in_turn, nothing, previous
from rayplat.serve.arms.guarded import Guarded, InsteadOf
from rayplat.serve.arms.shadow import Shadow, ShadowLog
from rayplat.serve.outbox import CANARY
from rayplat.serve.served import Answering


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that a replica has loaded; their predictors name the arms (`outbox.CHAMPION`, …).

    Attributes:
        champion: is to answer.
        canary: answers a share; None: there is no challenger, or its share is 0.
        shadow: is asked beside; None: likewise. It may be the same version as `canary`, with another arm.
        previous: answers where the champion fails; None: it is not at hand.
    """

    champion: Answering
    canary: Answering | None = None
    shadow: Answering | None = None
    previous: Answering | None = None


class Opened:
    """What answers, and what has to be closed after the last answer."""

    def __init__(self, answering: Answering, closing: tuple[Callable[[], None], ...]) -> None:
        self.answering = answering
        self._closing = closing

    def close(self) -> None:
        """Ask no version any more. May be called twice."""
        for one in self._closing:
            one()


def open_arms(
    versions: Versions,
    traffic: Traffic,
    log: Callable[[], ShadowLog],
    *,
    default_answer: float | None = None,
    timeout_s: float | None = None,
    rule: Rule | None = None,
) -> Opened:
    """What answers for an endpoint.

    Args:
        log: gives the log of the replica; it is asked when a shadow has said something.
        default_answer: the probability where every version fails; None: the request fails.
        timeout_s: how long champion and canary may take; None: as long as they like.
        rule: when their breakers open and close.

    Raises:
        UserError: the default answer is no probability.
    """
    answering, closing = versions.champion, list[Callable[[], None]]()
    instead: InsteadOf | None = None
    if default_answer is not None:
        instead = default(versions.champion, default_answer)
    if versions.previous is not None:
        before = previous(versions.previous)
        instead = before if instead is None else in_turn(before, instead)
    if instead is None and timeout_s is not None:
        instead = nothing
    if instead is not None:
        answering = guarded = Guarded(versions.champion, instead, rule=rule, timeout_s=timeout_s)
        closing.append(guarded.close)
    canary = None
    if versions.canary is not None and traffic.canary > 0:
        canary = Guarded(versions.canary, answering.answer, rule=rule, timeout_s=timeout_s, arm=CANARY)
        closing.append(canary.close)
    shadow = None if versions.shadow is None or traffic.shadow <= 0 else Shadow(versions.shadow, log)
    if shadow is not None or canary is not None:
        answering = arms = Arms(answering, traffic, canary=canary, shadow=shadow)
        closing.append(arms.close)
    return Opened(answering, tuple(closing))
