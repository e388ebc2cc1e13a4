"""Batches of a slow model: one at a time, none is lost, and nobody waits for a batch to fill."""

import asyncio
import random
import threading
import time
from datetime import UTC, datetime

import pytest

from rayplat.serve.front.turn import Turn, Waiting
from rayplat.serve.predictor import Answer
from rayplat.serve.request import Question

MOST = 4


class Form:
    def parse(self, body, now):
        if body == b"bad":
            raise ValueError("bad")
        return Question(now, [{"body": body}])


class Model:
    """Sleeps, and writes down how many were asked, and by how many threads at once."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.sizes = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, asked):
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            self.sizes.append(len(asked))
        time.sleep(self.seconds)
        with self._lock:
            self._now -= 1
        return [Answer([]) for _ in asked]


class Asking:
    """Asks a turn on a loop of its own, and collects what is told."""

    def __init__(self, model):
        self.told = {}
        self._model = model

    async def ask(self, numbers, pauses=lambda: 0.0, body=b"x"):
        turn = Turn(Form(), self._model, None, lambda seconds: None, most=MOST)
        for number in numbers:
            turn.add(Waiting(body, time.perf_counter(), self._teller(number)), alone=False)
            await asyncio.sleep(pauses())
        deadline = time.monotonic() + 10
        while len(self.told) < len(numbers) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        turn.close()

    def _teller(self, number):
        return lambda answer: self.told.setdefault(number, []).append(answer)


def test_all_are_told_once_in_batches_that_are_full_where_many_wait():
    model = Model(0.01)
    asking = Asking(model)
    asyncio.run(asking.ask(range(101)))
    assert sorted(asking.told) == list(range(101))
    assert {len(told) for told in asking.told.values()} == {1}
    assert sum(model.sizes) == 101
    assert max(model.sizes) == MOST
    assert model.most_at_once == 1
    assert len(model.sizes) < 101 / MOST + 6


def test_whoever_asks_at_any_moment_is_told():
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    drawn = random.Random(seed)
    asking = Asking(Model(0.002))
    asyncio.run(asking.ask(range(300), lambda: drawn.choice([0.0, 0.0, 0.0005, 0.003])))
    assert sorted(asking.told) == list(range(300))
    assert {len(told) for told in asking.told.values()} == {1}


@pytest.mark.parametrize("body", [b"bad", b"x"])
def test_a_body_that_cannot_be_read_is_told_at_once(body):
    model = Model(0.0)
    asking = Asking(model)
    asyncio.run(asking.ask(range(3), body=body))
    kinds = {type(told[0]) for told in asking.told.values()}
    assert kinds == ({ValueError} if body == b"bad" else {Answer})
    assert (len(model.sizes) == 0) is (body == b"bad")


def test_questions_of_one_moment_share_a_time():
    times = []

    def answer(asked):
        times.append({one.question.at for one in asked})
        return [Answer([]) for _ in asked]

    begin = datetime.now(UTC)
    asyncio.run(Asking(answer).ask(range(1)))
    assert all(len(found) == 1 for found in times)
    assert begin <= times[0].pop() <= datetime.now(UTC)
