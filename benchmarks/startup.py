"""How soon a newcomer sees something: the help, the import, and the whole demo.

Run: .venv/bin/python benchmarks/startup.py [--json] [--quick]

Peers are the command lines and packages of Ray and MLflow in the same environment. The limit of the
first two claims is Python itself doing nothing.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import psutil
from harness import ROOT, Claim, cpu_seconds, interleave, main, printed_seconds

BIN = Path(sys.executable).parent
_IMPORT = "import time; begin = time.perf_counter(); import {}; print(time.perf_counter() - begin)"
_EMPTY = "import time; begin = time.perf_counter(); print(time.perf_counter() - begin)"
_SAMPLE_EVERY_S = 1.0


def cli_help(runs: int, within_s: float | None) -> Claim:
    candidates = {
        name: lambda n=name: cpu_seconds([BIN / n, "--help"]) for name in ("rayplat", "ray", "mlflow")
    }
    candidates["limit"] = lambda: cpu_seconds([sys.executable, "-c", ""])
    samples = interleave(candidates, runs, within_s)
    limit = median(samples.pop("limit"))
    return Claim("cli_help_cpu_s", "s", samples.pop("rayplat"), samples, limit=limit)


def imports(runs: int, within_s: float | None) -> Claim:
    candidates = {
        name: lambda n=name: printed_seconds(_IMPORT.format(n)) for name in ("rayplat", "ray", "mlflow")
    }
    samples = interleave(candidates, runs, within_s)
    return Claim("import_s", "s", samples.pop("rayplat"), samples, limit=printed_seconds(_EMPTY))


def demo() -> list[Claim]:
    """The demo in a fresh home: wall time, and the peak of the memory of all its processes.

    Memory is the proportional set size: what processes share is counted once.
    """
    from rayplat.core.settings import Settings

    with tempfile.TemporaryDirectory(prefix="rayplat-demo-") as folder:
        settings = Settings.model_validate({"home": folder})
        common = ["--home", folder, "--set", "serve.port=0"]
        command = [str(BIN / "rayplat"), "run", "examples/flights", *common, "--output", "json"]
        begin, peak = time.perf_counter(), 0
        try:
            with tempfile.TemporaryFile("w+") as log:
                child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
                while child.poll() is None:
                    peak = max(peak, _memory(child.pid, settings))
                    time.sleep(_SAMPLE_EVERY_S)
                wall = time.perf_counter() - begin
                if child.returncode:
                    log.seek(0)
                    raise SystemExit(f"the demo ended with {child.returncode}:\n{log.read()[-4000:]}")
        finally:
            subprocess.run([BIN / "rayplat", "down", *common], cwd=ROOT, capture_output=True, check=False)
    return [Claim("demo_wall_s", "s", [wall]), Claim("demo_peak_gib", "GiB", [peak / 2**30])]


def _memory(pid: int, settings: object) -> int:
    """Proportional set size of the command and of everything that its platform runs, bytes."""
    from rayplat.cluster.processes import ours

    total = 0
    for process in {*ours(settings), *_tree(pid)}:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, AttributeError):
            continue  # it has just ended
    return total


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def measure(quick: bool) -> Sequence[Claim]:
    runs, within_s = (3, 20.0) if quick else (11, None)
    claims = [cli_help(runs, within_s), imports(runs, within_s)]
    if quick:
        print("skipped by --quick: demo_wall_s, demo_peak_gib (the demo takes minutes)", file=sys.stderr)
        return claims
    return [*claims, *demo()]


if __name__ == "__main__":
    main(measure, "How soon a newcomer sees something.")
