"""What the ranks of a process group must have alike before they save or load together.

Knows a few collectives that carry a token, a list of names and a yes or no; it does not know what they
are for. Each of them is called by every rank, between two steps, never in the background.
"""

import secrets
from collections.abc import Sequence

import torch
from torch import distributed


def agreed_token() -> str:
    """A token that every rank gets alike, and no other group."""
    number = torch.tensor([secrets.randbits(48)], dtype=torch.int64)
    if _together():
        number = number.to(_device())
        distributed.broadcast(number, 0)
    return f"{int(number):012x}"


def agreed_names(mine: Sequence[str]) -> list[str]:
    """The names that rank 0 sees: what another rank sees may be older or newer by a moment."""
    if not _together():
        return list(mine)
    text = "\n".join(mine).encode()
    length = torch.tensor([len(text)], dtype=torch.int64, device=_device())
    distributed.broadcast(length, 0)
    body = torch.zeros(int(length), dtype=torch.uint8)
    if distributed.get_rank() == 0 and text:
        body = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    body = body.to(_device())
    distributed.broadcast(body, 0)
    return [name for name in body.cpu().numpy().tobytes().decode().split("\n") if name]


def all_agree(mine: bool) -> bool:
    """Whether every rank says yes."""
    if not _together():
        return mine
    flag = torch.tensor([int(mine)], device=_device())
    distributed.all_reduce(flag, distributed.ReduceOp.MIN)
    return bool(flag)


def most_of_all(mine: int) -> int:
    """The largest number of all ranks."""
    if not _together():
        return mine
    number = torch.tensor([mine], dtype=torch.int64, device=_device())
    distributed.all_reduce(number, distributed.ReduceOp.MAX)
    return int(number)


def _together() -> bool:
    return distributed.is_initialized() and distributed.get_world_size() > 1


def _device() -> torch.device:
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
