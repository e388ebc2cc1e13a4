"""How numbers and copies of a network are laid out over the workers: precision, sharding, compilation.

Knows what this machine can do and how Accelerate and torch are told; it does not know how a step is taken
(`step`). Sharding is torch's `fully_shard` (FSDP2) on GPUs and CPUs alike: Accelerate has it for GPUs alone.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from rayplat.core.errors import UserError
from rayplat.core.project.training import Training

Optimizers = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides how a network can be laid out here."""

    gpu: bool
    bf16: bool
    deepspeed: bool


def this_machine() -> Machine:
    """What this process finds."""
    gpu = torch.cuda.is_available()
    bf16 = not gpu or torch.cuda.is_bf16_supported()
    return Machine(gpu=gpu, bf16=bf16, deepspeed=find_spec("deepspeed") is not None)


def precision_of(training: Training, machine: Machine) -> str:
    """`no`, `bf16` or `fp16`, as Accelerate names them.

    Raises:
        UserError: this machine cannot carry out what is declared.
    """
    asked = training.precision
    if asked == "auto":
        return "bf16" if machine.gpu and machine.bf16 else "no"
    if asked == "fp16" and not machine.gpu:
        raise UserError("precision fp16 needs a GPU, and there is none here", "use bf16, or no")
    if asked == "bf16" and not machine.bf16:
        raise UserError("precision bf16 is not known to this GPU", "use fp16, or no")
    return asked


def refuse_deepspeed(training: Training, machine: Machine) -> None:
    """Let DeepSpeed pass only where it can be had.

    Raises:
        UserError: there is no GPU, or it is not installed.
    """
    if training.strategy != "deepspeed":
        return
    if not machine.gpu:
        raise UserError("strategy deepspeed needs a GPU, and there is none here", "use ddp or fsdp2")
    if not machine.deepspeed:
        raise UserError(
            "strategy deepspeed needs the package deepspeed", "pip install deepspeed, or use fsdp2"
        )


def accelerator_for(training: Training, machine: Machine | None = None) -> Accelerator:
    """Accelerate, told how to train; the process group, if there is to be one, stands already.

    Raises:
        UserError: this machine cannot carry out what is declared.
    """
    machine = this_machine() if machine is None else machine
    refuse_deepspeed(training, machine)
    more: dict[str, Any] = {}
    if training.strategy == "deepspeed":
        from accelerate import DeepSpeedPlugin

        more["deepspeed_plugin"] = DeepSpeedPlugin(zero_stage=2, gradient_clipping=training.clip_norm)
    precision = precision_of(training, machine)
    return Accelerator(cpu=not machine.gpu, mixed_precision=precision, **more)


def prepare(
    network: nn.Module, optimizer_of: Optimizers, accelerator: Accelerator, training: Training
) -> tuple[Any, Any]:
    """The network as it is to be called, and its optimizer, laid out over the workers.

    Args:
        network: whole, the same on every worker; sharded in place under fsdp2.
        optimizer_of: makes the optimizer of the parameters, which under fsdp2 are shards.
    """
    sharded = training.strategy == "fsdp2" and accelerator.num_processes > 1
    if sharded:
        shard(network, accelerator)
        wrapped: Any = network
        optimizer = accelerator.prepare_optimizer(optimizer_of(network.parameters()))
    else:
        wrapped, optimizer = accelerator.prepare(network, optimizer_of(network.parameters()))
    if training.compile:
        wrapped = torch.compile(wrapped, dynamic=True)
    return wrapped, optimizer


def shard(network: nn.Module, accelerator: Accelerator) -> None:
    """Cut every parameter into one part a worker, block by block: one block at a time is whole in memory.

    A block is a child of a list of alike modules (the layers of a transformer); what is in none of them is
    a unit of its own.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    kind = accelerator.device.type
    mesh = init_device_mesh(kind, (accelerator.num_processes,))
    half = {"bf16": torch.bfloat16}.get(str(accelerator.mixed_precision))
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32 if half else None)
    if half is None:
        policy = MixedPrecisionPolicy()
    for block in _blocks(network):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)


def _blocks(network: nn.Module) -> list[nn.Module]:
    """The modules of every list of several alike ones, innermost lists left out."""
    found: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.ModuleList) and len({type(child) for child in module}) == 1:
            inside = {id(part) for block in found for part in block.modules()}
            found += [child for child in module if id(child) not in inside]
    return found


def is_sharded(network: nn.Module) -> bool:
    """Whether this worker holds parts of the network's parameters only."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


def fold(network: nn.Module) -> None:
    """Let go of what a pass without gradients has gathered: parameters are shards again."""
    from torch.distributed.fsdp import FSDPModule

    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(state: Mapping[str, Any]) -> dict[str, Any]:
    """A sharded network's state with every tensor whole, on the CPU; every worker takes part."""
    from torch.distributed.tensor import DTensor

    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().cpu()
        for name, tensor in state.items()
    }


def whole_optimizer(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same of an optimizer's state dict."""
    from torch.distributed.tensor import DTensor

    def gathered(value: Any) -> Any:
        return value.full_tensor().detach().cpu() if isinstance(value, DTensor) else value

    moments = {at: {n: gathered(v) for n, v in values.items()} for at, values in state["state"].items()}
    return {**state, "state": moments}


def parts_of_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, cut as this optimizer's parameters are."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    cut: dict[Any, dict[str, Any]] = {}
    for at, values in state["state"].items():
        like = parameters[int(at)]
        cut[at] = {
            name: distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
            if isinstance(like, DTensor) and isinstance(value, torch.Tensor) and value.shape == like.shape
            else value
            for name, value in values.items()
        }
    return {**state, "state": cut}
