"""The example that fine-tunes a transformer: sharded over two workers, and better than chance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayplat.train.rows import Rows
from rayplat.train.worker import WorkerTask, read_result

from .elastic.processes import Group

EXAMPLE = Path(__file__).parents[2] / "examples/finetune"


@dataclass(frozen=True)
class Lines:
    """The example's rows, without a lakehouse."""

    def read(self) -> Rows:
        from examples.finetune.data import TOKEN_COLUMNS, told

        frame = told()
        x = frame.select(TOKEN_COLUMNS).to_numpy().astype(np.float32)
        y = frame["torch"].to_numpy().astype(np.float32)
        inputs = tuple(f"text__{name}" for name in TOKEN_COLUMNS)
        return Rows(inputs, x[:3200], y[:3200], x[3200:3900], y[3200:3900])


def test_a_models_arithmetic_is_counted_by_what_is_trained():
    from examples.finetune.speed import flops_a_token

    full = flops_a_token(1000, 1000, layers=2, width=8, tokens=16)
    assert full == 6 * 1000 + 12 * 2 * 8 * 16
    assert flops_a_token(1000, 10, layers=2, width=8, tokens=16) == full - 2 * 990


@pytest.mark.slow
def test_a_transformer_is_fine_tuned_sharded_over_two_workers(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    rows: Any = Lines()
    task = WorkerTask(str(EXAMPLE), "origin", rows, f"file://{tmp_path}/run", 1)
    with Group(task, 2, 2, room=2) as group:
        outcome = group.wait()
    assert outcome.worlds == (2,)
    history = read_result(f"file://{tmp_path}/run").history
    assert history["roc_auc"][-1][1] > 0.65
    assert history["log_loss"][-1][1] < history["log_loss"][0][1]
    assert all(speed > 0 for _, speed in history["tokens_per_s"])
    assert all(0 < share < 1 for _, share in history["mfu"])
    assert any("tokens/s by 2 workers, MFU" in text for text in group.told)
