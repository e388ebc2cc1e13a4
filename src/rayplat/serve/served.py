"""What a replica answers with, behind whichever door the question comes.

Knows the predictor, the form of questions and how both describe themselves; it does not know HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rayplat.serve.predictor import Answer, Asked
from rayplat.serve.request import RequestForm
from rayplat.serve.stream_run import Parts


class Answering(Protocol):
    """What answers questions as `Predictor` does, under the name of a version."""

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def version(self) -> int:
        """The version that is to answer."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs in order."""

    def answer(self, asked: Sequence[Asked]) -> list[Answer]:
        """See `Predictor.answer`."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica answers with.

    Attributes:
        about: what GET on the endpoint tells beside inputs and columns, JSON values.
        parts: how it answers in parts; None: it does not.
    """

    predictor: Answering
    form: RequestForm
    about: dict[str, Any]
    parts: Parts | None = None

    def described(self) -> dict[str, Any]:
        """What GET on the endpoint tells."""
        predictor = self.predictor
        return {
            "endpoint": predictor.endpoint,
            "model": predictor.model,
            "version": predictor.version,
            "inputs": list(predictor.inputs),
            "request": {
                "at": "ISO 8601 time that the features shall be of; now, where it is left out",
                "instances": [self.form.describe()],
            },
            **self.about,
        }
