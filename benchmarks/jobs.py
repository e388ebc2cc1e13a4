"""How long a submission takes until the cluster has taken it, ours and Ray's own.

Run: .venv/bin/python benchmarks/jobs.py [--json] [--quick]

The same command with the same working folder on the same local cluster, in turns: `rayplat submit --detach`
and `ray job submit --no-wait`, each a process of its own, from its start to its end. Ours writes the
history and keeps the folder in the warehouse besides. The folder's content is new each time, so that
nobody skips the upload. The limit is the submission's one request alone, over a connection that is open.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from harness import ROOT, Claim, interleave, main

BIN = Path(sys.executable).parent
_COMMAND = ["python", "-c", "pass"]
_SETTLE_S = 1.5  # a job's own start and end are not to fall into the next sample


def _fill(folder: Path) -> None:
    for name in ("jobs", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "constraints.txt", folder)


def _timed(argv: Sequence[str | Path], folder: Path, env: dict[str, str]) -> float:
    (folder / "new.txt").write_text(str(time.time_ns()))
    begin = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False)
    took = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{argv} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    time.sleep(_SETTLE_S)
    return took


def _requests(settings: object) -> Callable[[], float]:
    from rayplat.cluster.jobs.address import find_door
    from rayplat.cluster.jobs.client import JobsClient

    client = JobsClient(find_door(settings))  # type: ignore[arg-type]

    def ask() -> float:
        begin = time.perf_counter()
        client.submit(f"limit_{time.time_ns()}", "true", {}, {})
        took = time.perf_counter() - begin
        time.sleep(_SETTLE_S)
        return took

    return ask


def measure(quick: bool) -> Sequence[Claim]:
    from rayplat.cluster.jobs.submission import job_environment
    from rayplat.cluster.session import down, up
    from rayplat.core.settings import Settings

    with tempfile.TemporaryDirectory(prefix="rayplat-jobs-") as home:
        settings = Settings.model_validate({"home": f"{home}/h", "ray": {"cpus": 1}})
        folder = Path(home) / "work"
        folder.mkdir()
        _fill(folder)
        up(settings)
        try:
            plain = {k: v for k, v in os.environ.items() if not k.startswith("RAYPLAT_")}
            ours = [BIN / "rayplat", "--home", settings.home, "submit", "--detach", "--", *_COMMAND]
            theirs = [BIN / "ray", "job", "submit", "--no-wait", "--working-dir", ".", "--", *_COMMAND]
            let_in = {**plain, **job_environment(settings)}
            samples = interleave(
                {
                    "rayplat": lambda: _timed(ours, folder, plain),
                    "ray_job_submit": lambda: _timed(theirs, folder, let_in),
                    "limit": _requests(settings),
                },
                3 if quick else 9,
                25.0 if quick else 60.0,
            )
        finally:
            down(settings)
    limit = median(samples.pop("limit"))
    return [
        Claim(
            "submit_overhead_s",
            "s",
            samples.pop("rayplat"),
            samples,
            limit=limit,
            note="until the cluster has taken the job; the limit is its request alone",
        )
    ]


if __name__ == "__main__":
    main(measure, "How long a submission takes until the cluster has taken it.")
