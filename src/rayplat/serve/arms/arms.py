"""The arms of one endpoint: champion and canary answer, a shadow is asked beside.

Knows who is asked what and how a record says so; it does not know what a share is decided by (`traffic`), nor
what happens when the champion fails (`guarded`), nor how a shadow is asked (`shadow`).
"""

import random
from collections.abc import Sequence

from rayplat.core.errors import UserError
from rayplat.core.project.serving import Traffic
from rayplat.core.telemetry import counter, get_logger
from rayplat.serve.arms.shadow import Shadow
from rayplat.serve.arms.traffic import GOLDEN, SILVER, Dealer
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.served import Answering


class Arms:
    """Answers as its champion, but for the canary's share.

    Args:
        champion: answers, and describes the endpoint.
        canary: answers a share; None: nobody does.
        shadow: see `Shadow`; None: there is none.
    """

    def __init__(
        self,
        champion: Answering,
        traffic: Traffic,
        *,
        canary: Answering | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self._champion = champion
        self._canary = canary if traffic.canary > 0 else None
        self._shadow = shadow
        self._by = traffic.by
        # Replicas do not begin alike: many that live for few requests deal their share, too.
        begin = random.random()  # noqa: S311  # nobody gains by knowing it
        self._to_canary = Dealer(traffic.canary, b"canary", step=GOLDEN, begin=begin)
        self._to_shadow = Dealer(traffic.shadow, b"shadow", step=SILVER, begin=begin)
        self.endpoint, self.model = champion.endpoint, champion.model
        self.version, self.inputs = champion.version, champion.inputs
        self._failed = counter(
            "serve_canary_failures_total", "batches that the champion answered for it", ("endpoint",)
        )

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """Answer questions that are all of one time; see `Predictor.answer`."""
        if self._canary is None and self._shadow is None:
            return self._champion.answer(asked)
        keys = self._keys(asked)
        answers = self._answers(asked, keys)
        if self._shadow is not None:
            places = self._to_shadow.places(keys)
            if len(places) == len(asked):
                self._shadow.ask(asked, answers)
            elif places:
                self._shadow.ask([asked[i] for i in places], [answers[i] for i in places])
        return answers

    def close(self) -> None:
        """Ask the shadow what waits for it, and stop."""
        if self._shadow is not None:
            self._shadow.close()

    def _keys(self, asked: Sequence[Asked]) -> list[bytes | None]:
        by = self._by
        if by is not None:
            return [str(one.question.instances[0].get(by)).encode("utf-8", "surrogatepass") for one in asked]
        return [None if one.key is None else one.key.encode("utf-8", "surrogatepass") for one in asked]

    def _answers(self, asked: Sequence[Asked], keys: Sequence[bytes | None]) -> list[Answer]:
        canary = self._canary
        theirs = () if canary is None else self._to_canary.places(keys)
        if canary is None or not theirs:
            return self._champion.answer(asked)
        if len(theirs) == len(asked):
            return self._tried(canary, asked) or self._champion.answer(asked)
        tried = self._tried(canary, [asked[place] for place in theirs])
        if tried is None:
            return self._champion.answer(asked)
        told = dict(zip(theirs, tried, strict=True))
        ours = [place for place in range(len(asked)) if place not in told]
        told |= zip(ours, self._champion.answer([asked[place] for place in ours]), strict=True)
        return [told[place] for place in range(len(asked))]

    def _tried(self, canary: Answering, asked: Sequence[Asked]) -> list[Answer] | None:
        """The canary's answers; None where it has failed, which is nobody's but its own affair."""
        try:
            return canary.answer(asked)
        except UserError:
            raise
        # Whatever a new version does, the one that was good answers.
        except Exception as error:
            self._failed.labels(self.endpoint).inc()
            get_logger("serve.arms").error("the canary failed", version=canary.version, exc_info=error)
            return None
