"""Whether an error says that memory ran out, and how a slice is cut into micro-batches.

Knows torch's and Python's ways to say so; it does not know what is done then (`decisions`).
"""

import itertools

import torch

_SIGNS = ("can't allocate memory", "cannot allocate memory", "not enough memory", "std::bad_alloc")
"""torch's allocator for the CPU raises a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, on the GPU or the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def micro_batches(rows: int, most: int | None) -> list[slice]:
    """Cut `rows` into as few parts of at most `most` as there need be, equal but for one row.

    Where there are no rows there is one empty part: every worker takes part in every step.
    """
    parts = max(1, -(-rows // most)) if most else 1
    edges = [rows * at // parts for at in range(parts + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(edges)]
