import threading
from datetime import UTC, datetime

import orjson
import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.project.table import Column
from rayplat.serve.batcher import Batcher
from rayplat.serve.predictor import Answer
from rayplat.serve.request import RequestError, RequestForm

FORM = RequestForm("raw.t", {"n": Column("int64", nullable=False)}, ("n",), None)


class Fake:
    """Answers with the numbers that were asked; waits for a sign before the first batch."""

    def __init__(self):
        self.batches = []
        self.began = threading.Event()
        self.go = threading.Event()

    def answer(self, asked):
        self.began.set()
        self.go.wait(10)
        numbers = [[i["n"] for i in one.question.instances] for one in asked]
        self.batches.append((asked[0].question.at, numbers))
        if any(13 in n for n in numbers):
            raise UserError("13 is unlucky")
        if any(99 in n for n in numbers):
            raise RuntimeError("the disk burns")
        return [Answer(n) for n in numbers]


@pytest.fixture
def fake():
    return Fake()


@pytest.fixture
def batcher(fake):
    made = Batcher(FORM, fake.answer)
    made.submit(_body(0))  # holds the thread until `go`
    fake.began.wait(10)
    yield made
    fake.go.set()
    made.close()


def _body(*numbers, at=None):
    return orjson.dumps({"instances": [{"n": n} for n in numbers], "at": at})


def test_what_waits_together_shares_a_lookup_by_its_time(fake, batcher):
    noon = "2024-03-01T12:00:00Z"
    futures = [batcher.submit(_body(i)) for i in range(1, 4)]
    futures += [batcher.submit(_body(7, 8, at=noon)), batcher.submit(_body(9, at=noon))]
    fake.go.set()
    assert [f.result(10).records for f in futures] == [[1], [2], [3], [7, 8], [9]]
    assert [numbers for _, numbers in fake.batches] == [[[0]], [[1], [2], [3]], [[7, 8], [9]]]
    assert fake.batches[2][0] == datetime(2024, 3, 1, 12, tzinfo=UTC)


def test_a_faulty_question_fails_alone(fake, batcher):
    bad_body, good, unlucky = batcher.submit(b"{"), batcher.submit(_body(1)), batcher.submit(_body(13))
    fake.go.set()
    assert good.result(10).records == [1]
    with pytest.raises(RequestError):
        bad_body.result(10)
    with pytest.raises(UserError, match="13 is unlucky"):
        unlucky.result(10)


def test_a_failure_is_told_to_all_of_the_batch_and_the_next_is_answered(fake, batcher):
    failed = [batcher.submit(_body(1)), batcher.submit(_body(99))]
    fake.go.set()
    for future in failed:
        with pytest.raises(RuntimeError, match="burns"):
            future.result(10)
    assert batcher.submit(_body(5)).result(10).records == [5]


def test_closing_answers_what_waits_and_refuses_the_rest(fake, batcher):
    waiting = batcher.submit(_body(1))
    fake.go.set()
    batcher.close()
    assert waiting.result(0).records == [1]
    with pytest.raises(UnavailableError):
        batcher.submit(_body(2))
