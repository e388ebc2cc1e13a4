"""What a step and a report cost: rayplat's training beside bare PyTorch, Accelerate and Ray Train.

Run: .venv/bin/python benchmarks/training_step.py [--json] [--quick]

Steps: in one worker of a real group, epochs of bare PyTorch, of Accelerate and of rayplat in turns, on the
same rows in the same order (TabularNet over 20 inputs, batches of 1024, AdamW). `step_overhead` is how much
longer rayplat's step takes than the bare one of the same turn, as a share of it (medians of 10 turns);
Accelerate's is beside it. Reports: how long
`run.checkpoint` holds the worker up, with its metrics and a checkpoint that is written in the background;
beside it `ray.train.report` of metrics alone, as it comes and with RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.05.
`input_starved_fraction`: with steps of 5 ms, the share of the time that the worker's own account gives to
waiting for rows; beside it plain loops in that worker which take the rows of a pyarrow table, or of tensors.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import Claim, main

HERE = Path(__file__).parent
ROWS, INPUTS, BATCH = 40_960, 20, 1024
TURNS_A_SAMPLE = 10


class InMemory:
    """Rows as a task names them, without a lakehouse."""

    def read(self) -> Any:
        from rayplat.train.rows import Rows

        random = np.random.default_rng(1)
        x = random.normal(size=(ROWS + 256, INPUTS)).astype(np.float32)
        y = (x[:, 0] + random.normal(size=len(x)) > 0).astype(np.float32)
        return Rows(tuple(f"own__{n}" for n in range(INPUTS)), x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def ours(folder: Path, turns: int, reports: int) -> dict[str, Any]:
    """Seconds of the steps by each loop, and of our reports, from a worker of a group on a platform."""
    from rayplat.cluster.session import connect, disconnect, down, up
    from rayplat.core.settings import Settings
    from rayplat.train.group import GroupSpec, run_group
    from rayplat.train.worker import WorkerTask

    settings = Settings.model_validate({"home": folder / "home", "ray": {"cpus": 2, "object_store_mib": 256}})
    shutil.copy(HERE / "training_step_project.py", folder)
    (folder / "sizes.json").write_text(json.dumps([turns, reports, BATCH]))
    project = str(folder / "training_step_project.py")
    rows: Any = InMemory()
    up(settings)
    try:
        connect(settings)
        run_group(GroupSpec(1, 1), WorkerTask(project, "bench", rows, f"file://{folder}/run", 1), _quietly)
    finally:
        disconnect()
        down(settings)
    told: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return told


def _quietly(text: str, share: float | None) -> None:
    """A benchmark does not tell of epochs."""


def ray_reports(folder: Path, reports: int, interval: str | None) -> list[float]:
    """Seconds of `ray.train.report` in a group of one, in a process of its own."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY")}
    plain |= {"RAY_AUTH_MODE": "disabled"} | (
        {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": interval} if interval else {}
    )
    command = [sys.executable, str(Path(__file__)), "--ray", str(folder), str(reports)]
    subprocess.run(command, env=plain, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: list[float] = json.loads((folder / "reports.json").read_text())
    return seconds


def report_by_ray(folder: Path, reports: int) -> None:
    """Report by Ray Train as often as asked, and write down how long each took."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    def work(config: dict[str, Any]) -> None:
        taken = []
        for _ in range(config["reports"]):
            begun = time.perf_counter()
            ray.train.report({"loss": 0.5})
            taken.append(time.perf_counter() - begun)
            time.sleep(0.05)
        Path(config["folder"], "reports.json").write_text(json.dumps(taken))

    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=str(folder / "ray")[:60], log_to_driver=False)
    TorchTrainer(
        work,
        train_loop_config={"folder": str(folder), "reports": reports},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=str(folder / "store")),
    ).fit()


def medians(paired: list[float]) -> list[float]:
    """The median of every `TURNS_A_SAMPLE` turns: one turn is a tenth of a second, and a busy machine's."""
    starts = range(0, len(paired), TURNS_A_SAMPLE)
    return [float(np.median(paired[at : at + TURNS_A_SAMPLE])) for at in starts]


def measure(quick: bool) -> Sequence[Claim]:
    turns, reports = (30, 20) if quick else (120, 40)
    with tempfile.TemporaryDirectory(prefix="rayplat-step-") as made:
        folder = Path(made)
        told = ours(folder, turns, reports)
    peers = {}
    for name, count, interval in (
        ("ray_train_default", 3 if quick else 10, None),
        ("ray_train_tuned", reports, "0.05"),
    ):
        with tempfile.TemporaryDirectory(prefix="rayplat-step-") as made:
            peers[name] = [1000 * s for s in ray_reports(Path(made), count, interval)]
    steps = told["steps"]
    bare = steps["bare_torch"]
    overhead = {
        name: medians([taken / alone - 1 for taken, alone in zip(steps[name], bare, strict=True)])
        for name in ("rayplat", "accelerate")
    }
    return [
        Claim(
            "step_overhead",
            "share",
            overhead["rayplat"],
            {"accelerate": overhead["accelerate"]},
            limit=0.0,
            note=f"a bare step takes {1000 * float(np.median(bare)):.2f} ms",
        ),
        Claim("report_p50_ms", "ms", [1000 * s for s in told["reports"]], peers, note="with a checkpoint"),
        Claim(
            "input_starved_fraction",
            "share",
            told["starved"].pop("rayplat"),
            told["starved"],
            limit=0.0,
            note="steps of 5 ms of arithmetic, rows in memory",
        ),
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ray"]:
        report_by_ray(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(measure, __doc__ or "")
