"""Bodies read, and their instances counted against who sent them.

Knows that a request is charged once its instances are known, and before the work; it does not know limits.
"""

from collections.abc import Callable
from datetime import datetime

from rayplat.serve.request import Question, RequestForm

Charge = Callable[[int], None]
"""Counts the instances of a request, from any thread; raises where they are too many for the caller."""


def free(_rows: int) -> None:
    """Nobody counts."""


def read(form: RequestForm, body: bytes, now: datetime, charge: Charge) -> Question:
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
