"""What stands in for a version: the one before it, or an answer that was declared.

Knows how either is recorded; it does not know when it is asked.
"""

import time
from collections.abc import Sequence

import orjson

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.ids import new_prediction_id
from rayplat.serve.arms.guarded import InsteadOf
from rayplat.serve.outbox import DEFAULT, PredictionRecord
from rayplat.serve.predicted import request_text
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.served import Answering


def previous(version: Answering) -> InsteadOf:
    """The version before answers; its predictor records the arm `previous`."""
    return version.answer


def default(version: Answering, probability: float) -> InsteadOf:
    """A declared probability is the answer, whatever is asked; no features are read.

    Args:
        version: that is to answer, as the records say; their arm is `default`.

    Raises:
        UserError: it is no probability.
    """
    if not 0 <= probability <= 1:
        raise UserError(f"the default answer {probability} is no probability", "give a number from 0 to 1")

    def answer(asked: Sequence[Asked]) -> list[Answer]:
        now = time.perf_counter()
        return [
            Answer([_record(version, probability, one, i, now) for i in _rows(one)], [{} for _ in _rows(one)])
            for one in asked
        ]

    return answer


def in_turn(first: InsteadOf, second: InsteadOf) -> InsteadOf:
    """What stands in, and what does where that fails too."""

    def answer(asked: Sequence[Asked]) -> list[Answer]:
        try:
            return first(asked)
        except UserError:
            raise
        # Whatever it is, there is another answer.
        except Exception:
            return second(asked)

    return answer


def nothing(asked: Sequence[Asked]) -> list[Answer]:
    """There is no other answer.

    Raises:
        UnavailableError: always.
    """
    raise UnavailableError(f"no version has answered {len(asked)} questions in time", "ask again in a moment")


def _rows(one: Asked) -> range:
    return range(len(one.question.instances))


def _record(version: Answering, probability: float, one: Asked, row: int, now: float) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=new_prediction_id(),
        endpoint=version.endpoint,
        model=version.model,
        version=version.version,
        at=one.question.at,
        asked_at=one.asked_at,
        request=request_text(one.question.instances[row]),
        features="{}",
        provenance="{}",
        probability=probability,
        latency_s=now - one.begin,
        output=orjson.dumps({"default": probability}).decode(),
        caller=one.caller,
        arm=DEFAULT,
        trace_id=one.trace_id,
        idempotency_key=one.key,
    )
