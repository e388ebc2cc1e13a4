"""Ranks as processes with a gloo group and FSDP2: each saves or loads its part of the same network.

Run: python ranks.py RANK WORLD STORE URI ACTION STEP

`save` trains two steps from what is there (or the seeded beginning) and saves; `load` only loads. Both print
the digest of the whole state, as every rank sees it.
"""

import hashlib
import sys
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from rayplat.train.checkpoints.agreeing import agreed_token
from rayplat.train.checkpoints.steps import StepCheckpoints
from rayplat.train.checkpoints.tree import part


def digest(state) -> str:
    """Of the whole state, whoever holds which part of it."""
    told = hashlib.sha256()
    for name, tensor in sorted(part(state)[1].items()):
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        told.update(name.encode() + whole.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return told.hexdigest()


def main(rank: int, world: int, *, store: str, uri: str, action: str, step: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{store}", timeout=timedelta(seconds=60), rank=rank, world_size=world
    )
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(7, 33), torch.nn.BatchNorm1d(33), torch.nn.ReLU(), torch.nn.Linear(33, 5)
    )
    mesh = init_device_mesh("cpu", (world,))
    fully_shard(network, mesh=mesh)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    checkpoints = StepCheckpoints(uri, rank=rank, world=world, token=agreed_token())
    options = StateDictOptions()

    def state():
        weights, rest = get_state_dict(network, optimizer, options=options)
        return {"network": weights, "optimizer": rest}

    def train() -> None:
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 28).view(4, 7)).pow(2).sum().backward()
        optimizer.step()

    found = checkpoints.latest(into=state())
    if found is not None:
        set_state_dict(
            network,
            optimizer,
            model_state_dict=found[1]["network"],
            optim_state_dict=found[1]["optimizer"],
            options=options,
        )
        print("loaded", found[0], digest(state()), flush=True)
    if action == "save":
        train()
        train()
        handle = checkpoints.save_async(step, state())
        before = digest(state())
        train()  # while it is written
        handle.wait(60)
        print("saved", step, before, flush=True)
    checkpoints.close()
    distributed.destroy_process_group()


if __name__ == "__main__":
    own, of, store_file, place, what, at = sys.argv[1:]
    main(int(own), int(of), store=store_file, uri=place, action=what, step=int(at))
