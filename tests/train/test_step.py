"""One step: micro-batches add up, gradients are clipped, numbers that are none do no harm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from rayplat.core.errors import UserError
from rayplat.core.project.training import OnFailure, Training
from rayplat.train.checkpoint import CheckpointFolder
from rayplat.train.failures.kept_batch import read_batch
from rayplat.train.loop import fit
from rayplat.train.run import TrainRun
from rayplat.train.step import BadLossError
from rayplat.train.tabular import TabularNet

from .synthetic import make_rows


def make_run(folder: Path, training: Training, **more: Any) -> TrainRun:
    return TrainRun(
        rows=make_rows(300, 100),
        build=lambda n: TabularNet(n, hidden=(16, 8)),
        seed=3,
        checkpoints=CheckpointFolder(f"file://{folder}/checkpoints"),
        accelerator=Accelerator(cpu=True),
        training=training,
        **more,
    )


def weights(run: TrainRun) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


def squares(network, x, y):
    return (network(x) - y) ** 2


def one_step(run: TrainRun, losses=squares, batch_size: int = 100) -> tuple[bool, torch.Tensor]:
    """Whether the step changed anything, and the gradient that it was taken with."""
    network, optimizer = run.prepare(lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    before = weights(run)
    for batch in run.epoch_batches(0, batch_size):
        changed = run.step(network, optimizer, batch, losses)
        break
    return changed, before - weights(run)


@pytest.mark.parametrize("micro_batch", [1, 7, 50, 99])
def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path, micro_batch):
    _, whole = one_step(make_run(tmp_path / "whole", Training()))
    _, parts = one_step(make_run(tmp_path / "parts", Training(micro_batch=micro_batch)))
    assert whole.norm() > 0
    # The same float32 sums in another order.
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_a_gradient_is_shortened_to_the_length_that_is_declared(tmp_path):
    _, free = one_step(make_run(tmp_path / "free", Training()))
    limit = float(free.norm()) / 2
    _, clipped = one_step(make_run(tmp_path / "clipped", Training(clip_norm=limit, micro_batch=30)))
    assert float(clipped.norm()) == pytest.approx(limit, rel=1e-3)
    torch.testing.assert_close(clipped, free / 2, rtol=1e-3, atol=1e-6)


def test_a_gradient_that_is_no_number_is_seen_where_gradients_are_clipped(tmp_path):
    def steep(network, x, y):
        values = network(x)
        return torch.sqrt(values - values.detach())  # 0, with an infinite slope

    run = make_run(tmp_path, Training(clip_norm=1.0))
    with pytest.raises(BadLossError, match="the gradient's length is"):
        one_step(run, steep)


def test_a_skipped_step_changes_nothing_and_its_rows_are_kept(tmp_path):
    told: list[str] = []
    policy = OnFailure(bad_loss="skip", skip_at_most=1)
    run = make_run(
        tmp_path, Training(on_failure=policy), note=told.append, kept_uri=f"file://{tmp_path}/kept"
    )
    changed, difference = one_step(run, lambda network, x, y: squares(network, x, y) * float("inf"))
    assert not changed
    assert difference.abs().max() == 0
    assert run.history["skipped_steps"] == [(0, 1.0)]
    assert "the step is skipped" in told[0]
    (x, y), about = read_batch(f"file://{tmp_path}/kept", "step-0000000000-rank-0000")
    assert (len(x), len(y)) == (100, 100)
    assert (about["epoch"], about["loss"]) == (0, "inf")


def test_an_error_that_is_not_of_memory_is_the_projects(tmp_path):
    def broken(network, x, y):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        one_step(make_run(tmp_path, Training()), broken)


def test_memory_errors_halve_the_micro_batch_in_place_where_one_trains_alone(tmp_path):
    told: list[str] = []

    def hungry(network, x, y):
        if len(x) > 30:
            raise MemoryError
        return squares(network, x, y)

    _, whole = one_step(make_run(tmp_path / "whole", Training()))
    run = make_run(tmp_path / "halved", Training(), note=told.append)
    _, halved = one_step(run, hungry)
    assert run.live.micro_batch == 25
    assert len(told) == 2
    torch.testing.assert_close(halved, whole, rtol=1e-4, atol=1e-6)
    stubborn = replace(Training(), on_failure=OnFailure(out_of_memory="stop"))
    with pytest.raises(UserError, match="memory ran out at step 0"):
        one_step(make_run(tmp_path / "stopped", stubborn), hungry)


def test_checkpoints_are_written_every_so_many_steps(tmp_path):
    from rayplat.core.project.training import Keep

    run = make_run(tmp_path, Training(checkpoints=Keep(every_steps=2)))
    saved = []
    save = run.save
    run.save = lambda *a, **k: (saved.append(run.live.step), save(*a, **k))[1]  # type: ignore[method-assign]
    fit(run, epochs=1, batch_size=30)
    run.finish_saves()
    assert saved == [2, 4, 6, 8, 10]


def test_a_step_that_the_scaler_passes_over_changes_nothing_and_is_counted(tmp_path):
    """A scaler works on a CPU as on a GPU; gradients are float32 here, so an overflow needs more."""
    run = make_run(tmp_path, Training())
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    network, optimizer = run.prepare(lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    factors, changed, scales = iter([1e36, 1.0, 1e36]), [], []
    for batch in run.epoch_batches(0, 100):
        before, factor = weights(run), next(factors)
        changed.append(
            run.step(network, optimizer, batch, lambda network, x, y, by=factor: by * squares(network, x, y))
        )
        assert torch.equal(before, weights(run)) != changed[-1]
        scales.append(run.accelerator.scaler.get_scale())
    assert changed == [False, True, False]
    assert scales == [2.0**15, 2.0**15, 2.0**14]
    assert run.history["overflowed_steps"] == [(0, 1.0), (2, 1.0)]
    assert run.live.step == 3  # every batch has had its step
    assert "skipped_steps" not in run.history
