"""What a replica answers with, behind whichever door the question comes.

Knows the predictor, the form of questions and how both describe themselves; it does not know HTTP.
"""

from dataclasses import dataclass
from typing import Any

from rayplat.serve.predictor import Predictor
from rayplat.serve.request import RequestForm


@dataclass(frozen=True, slots=True)
class Served:
    """What a replica answers with.

    Attributes:
        about: what GET on the endpoint tells beside inputs and columns, JSON values.
    """

    predictor: Predictor
    form: RequestForm
    about: dict[str, Any]

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
