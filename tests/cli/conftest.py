"""What the tests of the command line share: a way to run it in this process, in an empty folder."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rayplat.cli.app import app
from rayplat.core.settings import LogSettings
from rayplat.core.telemetry import configure_logging


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err.splitlines()[-1])["error"]


@pytest.fixture
def rayplat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ran]]:
    """`rayplat("models", "list")` in an empty folder, without RAYPLAT_* variables."""
    for name in [name for name in os.environ if name.startswith("RAYPLAT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("rayplat")
    before = (log.level, log.propagate, list(log.handlers))

    def run(*args: str, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(app, list(args), input=stdin, prog_name="rayplat")
        return Ran(result.exit_code, result.stdout, result.stderr)

    yield run
    configure_logging(LogSettings(format="text"))  # a command sets the form of all logs of its process
    log.level, log.propagate, log.handlers = before[0], before[1], before[2]
