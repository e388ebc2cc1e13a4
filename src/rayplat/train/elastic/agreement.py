"""At the start of a generation: everybody gets the state of whoever is furthest.

Knows how members compare how far they are, and how the state travels between them; it does not know why
a generation began. Survivors of a lost peer may differ by one step (one had all gradients, the other lost the
connection before the last of them), and members that join have nothing.
"""

from typing import Any

import orjson
import torch
from torch import distributed

from rayplat.train.checkpoint import Checkpoint, as_history, flatten_optimizer, on_cpu, unflatten_optimizer
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

    found = live.as_checkpoint()
    tensors, rest = flatten_optimizer(found.optimizer)
    state = {
        "epoch": found.epoch,
        "optimizer": rest,
        "history": dict(found.history),
        "step": found.step,
        "at": found.at,
        "curve": sorted(found.curve.items()),
    }
    named = {f"{_WEIGHTS}{name}": tensor for name, tensor in on_cpu(found.weights).items()}
    named |= {f"{_OPTIMIZER}{name}": tensor for name, tensor in tensors.items()}
    return save(named, metadata={"state": orjson.dumps(state).decode()})


def unpack(packed: bytes, live: LiveState) -> None:
    """Let `live` become what was packed."""
    from safetensors.torch import load

    size = int.from_bytes(packed[:8], "little")
    state: dict[str, Any] = orjson.loads(orjson.loads(packed[8 : 8 + size])["__metadata__"]["state"])
    tensors = load(packed)
    optimizer = {k.removeprefix(_OPTIMIZER): v for k, v in tensors.items() if k.startswith(_OPTIMIZER)}
    live.take(
        Checkpoint(
            epoch=int(state["epoch"]),
            weights={k.removeprefix(_WEIGHTS): v for k, v in tensors.items() if k.startswith(_WEIGHTS)},
            optimizer=unflatten_optimizer(optimizer, state["optimizer"]),
            history=as_history(state["history"]),
            step=int(state["step"]),
            at=(int(state["at"][0]), int(state["at"][1])),
            curve={int(step): float(loss) for step, loss in state["curve"]},
        )
    )


def _send(packed: bytes, to: int, device: torch.device) -> None:
    distributed.send(torch.tensor([len(packed)], dtype=torch.int64, device=device), to)
    distributed.send(torch.frombuffer(bytearray(packed), dtype=torch.uint8).to(device), to)


def _receive(source: int, device: torch.device) -> bytes:
    size = torch.zeros(1, dtype=torch.int64, device=device)
    distributed.recv(size, source)
    body = torch.empty(int(size), dtype=torch.uint8, device=device)
    distributed.recv(body, source)
    return body.cpu().numpy().tobytes()
