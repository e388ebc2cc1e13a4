"""Bodies read, and their instances counted against who sent them.

Knows that a request is charged once its instances are known, and before the work; it does not know limits.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from rayplat.serve.request import Question

Charge = Callable[[int], None]
"""Counts the instances of a request, from any thread; raises where they are too many for the caller."""


class Form(Protocol):
    """Reads bodies, as `RequestForm` does."""

    def parse(self, body: bytes, now: datetime) -> Question:
        """See `RequestForm.parse`."""


def free(_rows: int) -> None:
    """Nobody counts."""


def read(form: Form, body: bytes, now: datetime, charge: Charge) -> Question:
    """The question of a body, its instances charged.

    Raises:
        RequestError: as `RequestForm.parse`; that is charged as one instance.
        NotAdmittedError: the instances are too many for the caller.
    """
    try:
        question = form.parse(body, now)
    except Exception:
        charge(1)
        raise
    charge(len(question.instances))
    return question
