"""What every part of the cluster file is: frozen, strict about its keys, and able to say what mends it.

Knows the model's manners; it does not know a key.
"""

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """One mapping of the cluster file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def refuse(what: str, mend: str) -> PydanticCustomError:
    """A fault of one value, with the knob that mends it."""
    return PydanticCustomError("refused", "{text}", {"text": what, "mend": mend})
