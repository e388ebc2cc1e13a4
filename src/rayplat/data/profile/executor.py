"""Executors: where the parts of a table are sketched, in this process or on Ray Data.

Knows how parts are handed out and their sketches come back; it does not know what a sketch holds.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.data.profile.parts import Part, Sketches, sketch_part

Advance = Callable[[int], None]
"""Is told how many parts are done since the last call."""


class Executor(Protocol):
    """Sketches parts."""

    def run(self, parts: Sequence[Part], advance: Advance) -> list[Sketches]:
        """The sketches of every part, in any order."""
        ...


class InlineExecutor:
    """Works in this process, on several parts at once: reading and sketching both leave Python's lock."""

    def run(self, parts: Sequence[Part], advance: Advance) -> list[Sketches]:
        """The sketches of every part, in their order."""
        found = []
        with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1) or 1) as pool:
            for sketches in pool.map(sketch_part, parts, range(len(parts))):
                found.append(sketches)
                advance(1)
        return found


class RayExecutor:
    """Works in tasks of Ray Data, wherever the cluster has CPUs; Ray must be connected."""

    def run(self, parts: Sequence[Part], advance: Advance) -> list[Sketches]:
        """The sketches of every part.

        Raises:
            RayplatError: what the work raised, as it was raised.
            UnavailableError: a worker died, more than once.
        """
        import ray

        items = [{"part": part, "seed": seed} for seed, part in enumerate(parts)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(_sketch_row)
        found = []
        try:
            for row in dataset.iter_rows():
                found.append(row["sketches"])
                advance(1)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, RayplatError):
                raise cause from error
            raise UnavailableError(f"a worker that profiled a file ended: {error}", "try again") from error
        return found


def _sketch_row(row: dict[str, Any]) -> dict[str, Any]:
    return {"sketches": sketch_part(row["part"], row["seed"])}
