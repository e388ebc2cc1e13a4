import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.architecture.source import ROOT


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", folder / "pyproject.toml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_floors_hold() -> None:
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout


def test_planted_violations_are_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "src" / "rayplat"
    planted = {
        "data/planted_up.py": "from rayplat.features import definition",
        "cluster/planted_inside.py": "def f():\n    from rayplat.registry import store",
        "train/planted_sibling.py": "from rayplat.serve import app",
        "features/planted_mlflow.py": "def f():\n    import mlflow.entities",
        "data/lakehouse/planted_kafka.py": "import confluent_kafka",
        "cli/planted_iceberg.py": "import pyiceberg.catalog",
        "serve/planted_redis.py": "import redis",
        "core/planted_middle.py": "def f():\n    import ray",
        "governance/planted_a.py": "from rayplat.governance import planted_b",
        "governance/planted_b.py": "def f():\n    from rayplat.governance import planted_a",
        "novelty/__init__.py": "",
    }
    for name, text in planted.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(f'"""Planted."""\n\n{text}\n')
    drift = package / "monitoring" / "drift.py"
    drift.write_text(drift.read_text() + "\n\nimport torch\n")
    done = _lint(tmp_path)
    assert done.returncode == 1
    for wanted in (
        "rayplat.data.planted_up -> rayplat.features.definition",
        "rayplat.cluster.planted_inside -> rayplat.registry.store",
        "rayplat.train.planted_sibling -> rayplat.serve.app",
        "rayplat.features.planted_mlflow -> mlflow",
        "rayplat.data.lakehouse.planted_kafka -> confluent_kafka",
        "rayplat.cli.planted_iceberg -> pyiceberg",
        "rayplat.serve.planted_redis -> redis",
        "rayplat.core.planted_middle -> ray",
        "rayplat.monitoring.drift -> torch",
        "planted_a",
        "rayplat.novelty",
    ):
        assert wanted in done.stdout, f"{wanted!r} is not named in:\n{done.stdout}"
    assert "7 broken" in done.stdout
