"""Predictions asked for and answered in JSON; and what any form of asking does.

Knows the JSON of a prediction; it does not know where an answer comes from.
"""

from datetime import datetime
from typing import Protocol

import orjson

from rayplat.serve.front.reply import JSON, Reply
from rayplat.serve.predictor import Answer
from rayplat.serve.request import Question
from rayplat.serve.served import Served


class Exchange(Protocol):
    """A form in which a question is asked and its answer told; one request may have one of its own.

    Attributes:
        name: the same question in another form is another request.
        kind: the content type of answers.
    """

    name: bytes
    kind: bytes

    def parse(self, body: bytes, now: datetime) -> Question:
        """See `RequestForm.parse`."""

    def reply(self, answer: Answer) -> Reply:
        """The answer to what was parsed."""


class PlainExchange:
    """`{"instances": [...]}` -> `{"predictions": [...]}`; without a state that a request could change."""

    name = b"predict"
    kind = JSON

    def __init__(self, served: Served) -> None:
        predictor = served.predictor
        self.parse = served.form.parse
        self._head = {"endpoint": predictor.endpoint, "model": predictor.model}
        self._begins: dict[int, bytes] = {}

    def reply(self, answer: Answer) -> Reply:
        """See `Exchange`."""
        # Of several versions the one tells its name that has answered.
        version = answer.version
        begin = self._begins.get(version)
        if begin is None:
            head = orjson.dumps({**self._head, "version": version})
            begin = self._begins[version] = head[:-1] + b',"predictions":'
        return Reply(b"%b%b}" % (begin, orjson.dumps(answer.predictions())))
