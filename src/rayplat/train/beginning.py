"""The state that a run begins with: of its newest checkpoint, or before the first step.

Knows how a network is built and seeded; it does not know what a step does to it (`step`).
"""

from collections.abc import Callable

import torch
from torch import nn

from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.live_state import LiveState
from rayplat.train.rows import Rows


def begin(
    build: Callable[[int], nn.Module], rows: Rows, seed: int, checkpoints: CheckpointFolder
) -> LiveState:
    """The state of a run in a process that has none: of the newest checkpoint, or of the seeded beginning."""
    live = fresh(build, rows, seed)
    found = checkpoints.latest()
    if found is not None:
        live.take(found)
    return live


def fresh(build: Callable[[int], nn.Module], rows: Rows, seed: int) -> LiveState:
    """The state before the first step."""
    torch.manual_seed(seed)
    live = LiveState(build(len(rows.inputs)))
    live.note_statistics()
    return live
