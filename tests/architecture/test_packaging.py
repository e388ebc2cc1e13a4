import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def _direct() -> list[Requirement]:
    extras = PYPROJECT["optional-dependencies"].values()
    texts = [*PYPROJECT["dependencies"], *(text for extra in extras for text in extra)]
    return [r for r in map(Requirement, texts) if r.name != "rayplat"]


def test_every_direct_dependency_is_pinned_in_its_range() -> None:
    wrong = [
        f"{requirement} is pinned to {PINS.get(canonicalize_name(requirement.name))}"
        for requirement in _direct()
        if canonicalize_name(requirement.name) not in PINS
        or not requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])
    ]
    assert wrong == [], "run `make lock`"


def test_constraints_hold_pins_and_nothing_else() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.!]*( ; .+)?", line), line


def test_the_extras_of_the_platform_are_there() -> None:
    assert {"aws", "gcp", "redis", "postgres", "kinesis", "examples", "dev"} <= set(
        PYPROJECT["optional-dependencies"]
    )


def test_make_names_its_targets_and_reinstalls_only_when_the_pins_change(tmp_path: Path) -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "test-all", "lint", "bench", "lock", "docs", "clean"):
        assert f"make {target} " in shown
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    # The tests may run under make themselves, and a make within a make names its folders.
    plan = ["make", "--no-print-directory", "--dry-run", "demo"]
    fresh = subprocess.run(plan, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "-m venv .venv" in fresh
    assert "-c constraints.txt -e '.[dev]'" in fresh
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    again = subprocess.run(plan, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert again.strip() == ".venv/bin/rayplat run examples/flights"


def test_ci_runs_lint_and_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert text.index("make lint") < text.index("make test")


_FAKE_PYTHON = """#!/usr/bin/env bash
# Stands for python3.11: `-m venv FOLDER` makes an environment with a pip and a uv that ask nobody.
set -eu
mkdir -p "$3/bin"
printf '#!/bin/sh\\n' > "$3/bin/python"
cat > "$3/bin/uv" <<'UV'
#!/usr/bin/env bash
echo "$@" > uv-was-asked
while [ "$1" != "--output-file" ]; do shift; done
cat {compiled} > "$2"
UV
chmod +x "$3/bin/python" "$3/bin/uv"
"""


def _lock(folder: Path, compiled: str) -> subprocess.CompletedProcess[str]:
    (folder / "Makefile").write_text((ROOT / "Makefile").read_text())
    (folder / "constraints.txt").write_text("old==1\n")
    (folder / "compiled").write_text(compiled)
    python = folder / "python"
    python.write_text(_FAKE_PYTHON.replace("{compiled}", str(folder / "compiled")))
    python.chmod(0o755)
    return subprocess.run(
        ["make", "lock", f"PYTHON={python}"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PIP_FIND_LINKS": "/wheels"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_lock_holds_pins_without_local_tags_or_addresses(tmp_path: Path) -> None:
    compiled = (
        "# made by uv\n--find-links /wheels\nabc==1.0\nrayplat @ file:///x\ntorch==2.13.0+cpu\nrayplat-x==2\n"
    )
    done = _lock(tmp_path, compiled)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "constraints.txt").read_text() == "abc==1.0\ntorch==2.13.0\nrayplat-x==2\n"
    asked = (tmp_path / "uv-was-asked").read_text()
    assert "pip compile pyproject.toml --all-extras --python-version 3.11" in asked
    assert "--find-links /wheels" in asked


def test_a_lock_that_would_hold_an_address_is_refused(tmp_path: Path) -> None:
    assert _lock(tmp_path, "abc @ https://example.com/abc.whl\n").returncode != 0
    assert (tmp_path / "constraints.txt").read_text() == "old==1\n"
