"""States for the tests of checkpoints, and how two of them are compared."""

from pathlib import Path
from typing import Any

import torch


def state(step: int, size: int = 1000) -> dict[str, Any]:
    """A state that tells its step: small and large tensors of several types, and plain values."""
    random = torch.Generator().manual_seed(step)
    return {
        "network": {
            "weight": torch.randn(size, 3, generator=random),
            "half": torch.randn(17, generator=random).bfloat16(),
            "count": torch.tensor(step),
            "mask": torch.tensor([True, False, True]),
            "none of it": torch.empty(0, 4),
        },
        "optimizer": {"state": {0: {"step": torch.tensor(float(step))}, 7: {"plain": step}}, "of": None},
        "pair": (step, [1.5, "text", {"a/b": float("inf")}]),
    }


def same(one: Any, other: Any) -> bool:
    """Whether two states are the same to the bit, with their types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
