"""At the start of a generation: everybody gets the state of whoever is furthest.

Knows how members compare how far they are, and how the state travels between them; it does not know why
a generation began. Survivors of a lost peer may differ by one step (one had all gradients, the other lost the
connection before the last of them), and members that join have nothing.
"""

import json
from typing import Any

import torch
from torch import distributed

from rayplat.train.checkpoint import joined, parted
from rayplat.train.live_state import LiveState

NOTHING = (-1, -1)
_WEIGHTS, _OPTIMIZER = "w.", "o."


def progress(live: LiveState | None) -> tuple[int, int]:
    """How far a member is: steps, and ended epochs; `NOTHING` where it has no whole state."""
    return NOTHING if live is None or live.changing else (live.step, live.epochs_done)


def agree(live: LiveState, mine: tuple[int, int], rank: int, world: int) -> int:
    """Bring this member to the furthest member's state; every member of the generation calls it.

    Args:
        live: takes what is received.
        mine: see `progress`; `live` of a member with `NOTHING` is fresh.

    Returns:
        How many members were behind.

    Raises:
        RuntimeError: a peer was lost meanwhile; then `live` is as it was, or whole, never half.
    """
    if world == 1:
        return 0
    device = torch.device("cuda") if distributed.get_backend() == "nccl" else torch.device("cpu")
    gathered = [torch.zeros(2, dtype=torch.int64, device=device) for _ in range(world)]
    distributed.all_gather(gathered, torch.tensor(mine, dtype=torch.int64, device=device))
    all_progress = [(int(one[0]), int(one[1])) for one in gathered]
    furthest = max(all_progress)
    behind = [r for r, one in enumerate(all_progress) if one != furthest]
    if not behind or furthest == NOTHING:
        return 0
    source = all_progress.index(furthest)
    if rank == source:
        packed = pack(live)
        for other in behind:
            _send(packed, other, device)
    elif rank in behind:
        unpack(_receive(source, device), live)
    return len(behind)


def pack(live: LiveState) -> bytes:
    """The state as bytes: tensors by safetensors, the rest as JSON in its header."""
    from safetensors.torch import save

    weights, optimizer, state = parted(live.as_checkpoint())
    named = {f"{_WEIGHTS}{name}": tensor for name, tensor in weights.items()}
    named |= {f"{_OPTIMIZER}{name}": tensor for name, tensor in optimizer.items()}
    return save(named, metadata={"state": json.dumps(state)})


def unpack(packed: bytes, live: LiveState) -> None:
    """Let `live` become what was packed."""
    from safetensors.torch import load

    size = int.from_bytes(packed[:8], "little")
    state: dict[str, Any] = json.loads(json.loads(packed[8 : 8 + size])["__metadata__"]["state"])
    tensors = load(packed)
    weights = {k.removeprefix(_WEIGHTS): v for k, v in tensors.items() if k.startswith(_WEIGHTS)}
    optimizer = {k.removeprefix(_OPTIMIZER): v for k, v in tensors.items() if k.startswith(_OPTIMIZER)}
    live.take(joined(weights, optimizer, state))


def _send(packed: bytes, to: int, device: torch.device) -> None:
    distributed.send(torch.tensor([len(packed)], dtype=torch.int64, device=device), to)
    distributed.send(torch.frombuffer(bytearray(packed), dtype=torch.uint8).to(device), to)


def _receive(source: int, device: torch.device) -> bytes:
    size = torch.zeros(1, dtype=torch.int64, device=device)
    distributed.recv(size, source)
    body = torch.empty(int(size), dtype=torch.uint8, device=device)
    distributed.recv(body, source)
    return body.cpu().numpy().tobytes()
