"""Typed ids: one prefix a kind, sortable by the time they were made.

Knows how an id is made and checked; it does not know what it names.
"""

from typing import NewType

import uuid_utils

from rayplat.core.errors import UserError

PredictionId = NewType("PredictionId", str)
RunId = NewType("RunId", str)
SnapshotId = NewType("SnapshotId", int)
ModelVersion = NewType("ModelVersion", int)

_PREDICTION = "prd_"
_HEX = 32


def new_prediction_id() -> PredictionId:
    """Make a prediction id: `prd_` and the 32 hex digits of a UUIDv7 (RFC 9562, section 5.7)."""
    return PredictionId(_PREDICTION + uuid_utils.uuid7().hex)


def parse_prediction_id(text: str) -> PredictionId:
    """Check an id that a person typed.

    Raises:
        UserError: the text is no prediction id; the message says what one looks like.
    """
    digits = text.removeprefix(_PREDICTION)
    if digits == text or len(digits) != _HEX or any(c not in "0123456789abcdef" for c in digits):
        raise UserError(
            f"{text!r} is not a prediction id",
            "give the id from the endpoint's answer: prd_ and 32 hex digits",
        )
    return PredictionId(text)
