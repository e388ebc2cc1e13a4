"""A choice that is loaded: what it answers with, what it holds, and what ends with it.

Knows when a version is ready for traffic; it does not know who asks for it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rayplat.core.errors import UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.serve.evaluation import probabilities
from rayplat.serve.loaded import Network
from rayplat.serve.multiplex.choices import Choice
from rayplat.serve.multiplex.pool import Pool
from rayplat.serve.served import Served

_MIB = 1 << 20


class NotLoadedError(UnavailableError):
    """A model that cannot be loaded here; the others of the endpoint answer."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"the model {name!r} cannot be loaded: {reason}", "look at its artifact")

    def __reduce__(self) -> "tuple[type[NotLoadedError], tuple[str, str]]":
        return type(self), (self.name, self.reason)


@dataclass(slots=True, eq=False)
class Chosen:
    """A choice that is loaded.

    Attributes:
        size: of its artifact, bytes.
        closing: called when nobody has it any more.
    """

    served: Served
    size: int
    closing: list[Callable[[], None]] = field(default_factory=list)

    def close(self) -> None:
        """End what was made for it."""
        for one in self.closing:
            one()


Load = Callable[[Choice], tuple[Served, Network, int]]
"""Loads a version: what answers, its network, and the bytes of its artifact."""


def open_pool(choices: tuple[Choice, ...], load: Load, kept: int, most_mib: float | None) -> Pool[Chosen]:
    """The pool of an endpoint's choices, by their names.

    Args:
        kept: so many are loaded at a time.
        most_mib: so large their artifacts are together; None: however large.
    """
    named = {choice.name: choice for choice in choices}

    def loaded(name: str) -> Chosen:
        try:
            served, network, size = load(named[name])
            # The first request is not to pay for what a network does once.
            probabilities(network, np.full((1, len(served.predictor.inputs)), np.nan, np.float32), name)
        # Whatever is wrong with it, it is its own affair: the others answer.
        except Exception as error:
            get_logger("serve.multiplex").error("a model cannot be loaded", model=name, error=str(error))
            raise NotLoadedError(name, str(error)) from error
        return Chosen(served, size)

    return Pool(
        loaded,
        kept=kept,
        most_bytes=None if most_mib is None else int(most_mib * _MIB),
        size_of=lambda one: one.size,
        dropped=Chosen.close,
    )
