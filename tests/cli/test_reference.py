import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, ROOT / "docs" / "generate_reference.py", folder], check=True)
    return folder


@pytest.mark.parametrize("page", ["cli.md", "settings.md"])
def test_the_reference_is_what_the_code_says(written: Path, page: str) -> None:
    assert (ROOT / "docs" / "reference" / page).read_text() == (written / page).read_text(), "run `make docs`"


def test_the_reference_names_commands_options_and_settings(written: Path) -> None:
    commands = (written / "cli.md").read_text()
    for wanted in ("## rayplat up", "### rayplat data history", "`--where`", "| 70 | a bug in rayplat |"):
        assert wanted in commands
    settings = (written / "settings.md").read_text()
    for wanted in ("| `serve.port` | `8000` |", "| `kafka.options` |", "`file://<home>/warehouse`"):
        assert wanted in settings
