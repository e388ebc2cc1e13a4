"""Precision, sharding and compilation as declared; what cannot be had is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayplat.core.errors import UserError
from rayplat.core.project.training import Training
from rayplat.train.goodput.spending import Spent
from rayplat.train.layout import Machine, accelerator_for, deepspeed_config, has_engine, precision_of
from rayplat.train.worker import RunResult, WorkerTask, checkpoints_of, read_result

from .elastic.processes import Group, InMemory
from .test_step import make_run, one_step

PROJECT = Path(__file__).parent / "projects/failing.py"
GPU, CPU = Machine(gpu=True, bf16=True, deepspeed=False), Machine(gpu=False, bf16=True, deepspeed=False)
OLD_GPU = Machine(gpu=True, bf16=False, deepspeed=False)


@pytest.mark.parametrize(
    ("asked", "machine", "given"),
    [("auto", CPU, "no"), ("auto", GPU, "bf16"), ("auto", OLD_GPU, "no"), ("fp16", GPU, "fp16")],
)
def test_precision_is_what_the_machine_has(asked, machine, given):
    assert precision_of(Training(precision=asked), machine) == given


@pytest.mark.parametrize(
    ("training", "machine", "why"),
    [
        (Training(precision="fp16"), CPU, "fp16 needs a GPU"),
        (Training(precision="bf16"), OLD_GPU, "bf16 is not known to this GPU"),
        (Training(strategy="deepspeed"), CPU, "deepspeed needs a GPU"),
        (Training(strategy="deepspeed"), GPU, "needs the package deepspeed"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_begins(training, machine, why):
    with pytest.raises(UserError, match=why):
        accelerator_for(training, machine)


def test_bf16_computes_in_half_precision_and_keeps_whole_weights(tmp_path):
    seen = []

    def losses(network, x, y):
        hook = network.body[0].register_forward_hook(lambda module, inputs, out: seen.append(out.dtype))
        values = (network(x).float() - y) ** 2
        hook.remove()
        return values

    _, exact = one_step(make_run(tmp_path / "exact", Training()))
    torch.manual_seed(0)
    run = make_run(tmp_path / "half", Training(precision="bf16"))
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    run.accelerator = accelerator_for(run.training)
    _, half = one_step(run, losses)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert seen == [torch.bfloat16]
    assert all(p.dtype == torch.float32 for p in run.network.parameters())
    # bf16 has 8 bits of mantissa: a gradient is right to some 1 %.
    assert torch.nn.functional.cosine_similarity(exact, half, dim=0) > 0.99


@pytest.mark.slow
# Inductor imports torch's own modules that still use torch.jit.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_network_takes_the_same_step(tmp_path):
    _, plain = one_step(make_run(tmp_path / "plain", Training()))
    _, compiled = one_step(make_run(tmp_path / "compiled", Training(compile=True, micro_batch=33)))
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-5)


def train(folder: Path, asked: dict[str, Any], workers: int) -> Group:
    folder.mkdir(exist_ok=True)
    shutil.copy(PROJECT, folder / "failing.py")
    (folder / "faults.json").write_text(json.dumps(asked))
    rows: Any = InMemory(515)
    task = WorkerTask(str(folder / "failing.py"), "failing", rows, f"file://{folder}/run", 1)
    with Group(task, workers, workers, room=workers, hung_after_s=20.0) as group:
        group.wait()
    return group


def losses_of(folder: Path) -> np.ndarray:
    result: RunResult = read_result(f"file://{folder}/run")
    return np.array([loss for _, loss in result.history["train_loss_by_step"]])


def test_a_sharded_network_learns_the_same_and_goes_on_unsharded(tmp_path):
    """FSDP2 on two processes, clipped and in micro-batches; then its checkpoint by one process alone."""
    # A checkpoint after every epoch's last step, too: all workers have to take part in the same ones.
    spec = {"strategy": "fsdp2", "clip_norm": 0.5, "micro_batch": 10, "checkpoints": {"every_steps": 9}}
    train(tmp_path / "ddp", {"training": spec | {"strategy": "ddp"}}, 2)
    group = train(tmp_path / "fsdp", {"training": spec}, 2)
    assert group.outcome is not None
    assert group.outcome.worlds == (2,)
    assert group.outcome.goodput.spending.ns[Spent.CHECKPOINT] > 0
    # The same sums in another order, and AdamW divides by small numbers: see tests/train/test_loop.py.
    np.testing.assert_allclose(losses_of(tmp_path / "fsdp"), losses_of(tmp_path / "ddp"), atol=2e-3, rtol=0)
    whole = read_result(f"file://{tmp_path}/ddp/run").weights
    sharded = read_result(f"file://{tmp_path}/fsdp/run").weights
    for name, weight in whole.items():
        torch.testing.assert_close(sharded[name], weight, atol=2e-3, rtol=0)

    # The last epoch is taken again from the checkpoint of the second, by one worker and by none that shards.
    shutil.copytree(tmp_path / "fsdp", tmp_path / "one")
    shutil.rmtree(tmp_path / "one/run/result")
    newest = sorted((tmp_path / "one/run/checkpoints").iterdir())[-1]
    shutil.rmtree(newest)
    found = checkpoints_of(f"file://{tmp_path}/one/run").latest()
    assert found is not None
    assert found.step == 18
    train(tmp_path / "one", {"training": spec}, 1)
    np.testing.assert_allclose(losses_of(tmp_path / "one"), losses_of(tmp_path / "ddp"), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("clip_norm", "clipped_at"), [(None, 0.0), (0.5, 0.5)])
def test_deepspeed_is_told_everything_that_accelerate_would_else_make_up(clip_norm, clipped_at):
    from accelerate import DeepSpeedPlugin

    training = Training(strategy="deepspeed", clip_norm=clip_norm)
    plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_config(training, "bf16"))
    config = plugin.deepspeed_config
    assert "auto" not in json.dumps(config)
    assert not plugin.is_auto("train_micro_batch_size_per_gpu")  # or it would ask for a data loader
    assert config["gradient_clipping"] == clipped_at
    assert (config["zero_optimization"]["stage"], plugin.zero_stage) == (2, 2)
    assert (config["bf16"]["enabled"], config["fp16"]["enabled"]) == (True, False)


def test_one_worker_alone_needs_no_engine():
    """It would look for a group that is not there."""
    machine = Machine(gpu=True, bf16=True, deepspeed=True)
    training = Training(strategy="deepspeed", precision="no")
    assert not has_engine(training, accelerator_for(training, machine))
