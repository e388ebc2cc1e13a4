"""Versions that answer as a test has it, and questions to them."""

import time
from concurrent.futures import Future
from datetime import UTC, datetime

from rayplat.core.ids import new_prediction_id
from rayplat.serve.outbox import PredictionRecord
from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.request import Question

AT = datetime(2024, 3, 1, tzinfo=UTC)


def asked(*shops: str, key: str | None = None) -> Asked:
    instances = [{"shop": shop} for shop in shops or ("north",)]
    return Asked(Question(AT, instances), AT, time.perf_counter(), "shop", None, key)


class Version:
    """Answers with its number; `error` makes it fail, `takes_s` makes it slow."""

    endpoint, model, inputs = "buys", "buys", ("amount",)

    def __init__(self, version: int, arm: str | None = None) -> None:
        self.version = version
        self.arm = arm
        self.error: Exception | None = None
        self.takes_s = 0.0
        self.calls = 0

    def answer(self, asked: "list[Asked]") -> list[Answer]:
        self.calls += 1
        time.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return [Answer([self._record(one, i) for i in one.question.instances]) for one in asked]

    def _record(self, one: Asked, instance: dict[str, object]) -> PredictionRecord:
        return PredictionRecord(
            prediction_id=new_prediction_id(),
            endpoint=self.endpoint,
            model=self.model,
            version=self.version,
            at=one.question.at,
            asked_at=one.asked_at,
            request=str(instance),
            features="{}",
            provenance="{}",
            probability=self.version / 10,
            latency_s=0.0,
            caller=one.caller,
            arm=self.arm,
            idempotency_key=one.key,
        )


class Log:
    """Keeps records."""

    def __init__(self) -> None:
        self.records: list[PredictionRecord] = []
        self.error: Exception | None = None

    def submit(self, records: "list[PredictionRecord]") -> "Future[None]":
        done: Future[None] = Future()
        if self.error is not None:
            done.set_exception(self.error)
        else:
            self.records += records
            done.set_result(None)
        return done
