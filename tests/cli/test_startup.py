import resource
import subprocess
import sys

import pytest

HEAVY = (
    "ray",
    "torch",
    "mlflow",
    "polars",
    "pyarrow",
    "pyiceberg",
    "sklearn",
    "pandas",
    "numpy",
    "sqlalchemy",
)

_CODE = """
import sys
sys.argv = ["rayplat", *{arguments!r}]
from rayplat.cli.app import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
print("loaded:", *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def _loaded(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.splitlines()[-1].removeprefix("loaded:").split())


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--help"], ["version"], ["config", "show"]])
def test_light_commands_load_nothing_heavy(arguments: list[str]) -> None:
    assert not _loaded(_CODE.format(arguments=arguments)) & set(HEAVY)


@pytest.mark.parametrize("module", ["rayplat", "rayplat.core.settings", "rayplat.core.telemetry"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = (
        f"import sys, {module}\nprint('loaded:', *[n for n in sys.modules if '.' not in n], file=sys.stderr)"
    )
    assert not _loaded(code) & {*HEAVY, "structlog", "prometheus_client", "pydantic_settings", "typer"}


def test_help_takes_less_than_0_3_s_of_cpu() -> None:
    # The least of several runs: another process on the machine can only make it slower.
    assert min(_cpu_of_help() for _ in range(5)) < 0.3


def _cpu_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "rayplat.cli", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
