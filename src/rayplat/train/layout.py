"""How numbers and copies of a network are laid out over the workers: precision, sharding, compilation.

Knows what this machine can do and how Accelerate and torch are told; it does not know how a step is taken
(`step`). Sharding is torch's `fully_shard` (FSDP2) on GPUs and CPUs alike: Accelerate has it for GPUs alone.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import distributed, nn

from rayplat.core.errors import UserError
from rayplat.core.project.training import Training
from rayplat.core.settings_environment import set_for_sdk

_meshes = itertools.count()
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
    precision = precision_of(training, machine)
    more: dict[str, Any] = {}
    if training.strategy == "deepspeed":
        # Accelerate remembers it in the environment; one worker alone has nobody to share a state with.
        set_for_sdk({"ACCELERATE_USE_DEEPSPEED": "false"})
        if distributed.is_initialized():
            from accelerate import DeepSpeedPlugin

            more["deepspeed_plugin"] = DeepSpeedPlugin(hf_ds_config=deepspeed_config(training, precision))
    return Accelerator(cpu=not machine.gpu, mixed_precision=precision, **more)


def deepspeed_config(training: Training, precision: str) -> dict[str, Any]:
    """DeepSpeed's configuration, whole: what is left out Accelerate would take from a data loader that it
    does not have, and it would clip gradients at 1."""
    return {
        # What a batch really has is for the run to say; the engine counts with it in its own log alone.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if training.clip_norm is None else training.clip_norm,  # 0: not at all
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
    }


def has_engine(training: Training, accelerator: Accelerator) -> bool:
    """Whether DeepSpeed takes the steps of this group."""
    # Accelerate is asked last: it makes an object for each answer, and a step asks several times.
    return training.strategy == "deepspeed" and accelerator.distributed_type == DistributedType.DEEPSPEED


def prepare(
    network: nn.Module, optimizer_of: Optimizers, accelerator: Accelerator, training: Training
) -> tuple[Any, Any]:
    """The network as it is to be called, and its optimizer, laid out over the workers.

    Args:
        network: whole, the same on every worker; sharded in place under fsdp2.
        optimizer_of: makes the optimizer of the parameters, which under fsdp2 are shards.
    """
    if will_shard(training, accelerator.num_processes):
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
    # Named anew each time: what torch keeps of operations on one mesh it would give to an equal one, too,
    # with the place of this worker in a group that is gone.
    mesh = init_device_mesh(kind, (accelerator.num_processes,), mesh_dim_names=(f"workers_{next(_meshes)}",))
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


def will_shard(training: Training, workers: int) -> bool:
    """Whether so many workers get parts of the network's parameters only."""
    return training.strategy == "fsdp2" and workers > 1


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


def fill_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer make the state that it keeps of each parameter, as large as it will be; the parameters
    stay as they are. What a checkpoint has of it can be read into it then."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], torch.Tensor) else 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def parts_of_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, the same on every worker, cut as this optimizer's parameters are."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    cut: dict[Any, dict[str, Any]] = {}
    for at, values in state["state"].items():
        like = parameters[int(at)]
        cut[at] = {
            name: distribute_tensor(
                value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
            )
            if isinstance(like, DTensor)
            and isinstance(value, torch.Tensor)
            and not isinstance(value, DTensor)
            and value.shape == like.shape
            else value
            for name, value in values.items()
        }
    return {**state, "state": cut}
