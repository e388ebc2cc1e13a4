"""What needs a GPU: half precision with a scaler, DeepSpeed, and the loader's pinned memory."""

import pytest
import torch
from accelerate.state import AcceleratorState

from rayplat.core.project.training import Training
from rayplat.train.layout import accelerator_for

from .test_step import make_run, one_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


@pytest.fixture(autouse=True)
def fresh_accelerate():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run_with(folder, training: Training):
    run = make_run(folder, training)
    AcceleratorState._reset_state(reset_partial_state=True)
    run.accelerator = accelerator_for(training)
    return run


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_takes_the_step_of_whole_precision(tmp_path, precision):
    _, exact = one_step(run_with(tmp_path / "exact", Training(precision="no")))
    run = run_with(tmp_path / "half", Training(precision=precision))
    assert (run.accelerator.scaler is not None) == (precision == "fp16")
    changed, half = one_step(run)
    assert changed
    assert all(p.dtype == torch.float32 and p.is_cuda for p in run.network.parameters())
    # 8 (bf16) or 11 (fp16) bits of mantissa: a gradient is right to some 1 %.
    assert torch.nn.functional.cosine_similarity(exact, half, dim=0) > 0.99


def test_an_overflow_of_fp16_is_skipped_by_the_scaler(tmp_path):
    run = run_with(tmp_path, Training(precision="fp16"))
    _, change = one_step(run, lambda network, x, y: network(x) * 1e30)
    assert torch.count_nonzero(change) == 0


def test_deepspeed_takes_a_step(tmp_path):
    pytest.importorskip("deepspeed")
    changed, _ = one_step(run_with(tmp_path, Training(strategy="deepspeed")))
    assert changed


def test_batches_come_to_the_gpu_from_pinned_memory(tmp_path):
    run = run_with(tmp_path, Training())
    batches = list(run.epoch_batches(0, 100))
    assert all(x.is_cuda and y.is_cuda for x, y in batches)
    assert sum(len(y) for _, y in batches) == run.rows
