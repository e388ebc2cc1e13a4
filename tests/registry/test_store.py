import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from rayplat.core.errors import ConflictError, NotFoundError
from rayplat.core.settings import Settings
from rayplat.registry.store import Registry
from rayplat.registry.store_database import has_tables

# MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; the call is in MLflow's own module.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning:mlflow")

KEY = "a" * 64
CURVES = {"train_loss": [(0, 0.7), (1, 0.5)], "roc_auc": [(0, 0.6), (1, 0.8)]}


def log_and_register(registry: Registry, key: str = KEY, digest: str = "d1"):
    uri = registry.artifact_uri("late", key)
    run_id = registry.log_run(
        "late",
        key,
        params={"lr": 0.1},
        metrics={"test.roc_auc": 0.8},
        curves=CURVES,
        tags={"note": "x"},
        artifact_uri=uri,
    )
    return registry.register("late", run_id, uri, digest, key)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A database that has MLflow's tables, to be copied: making them takes two seconds."""
    home = tmp_path_factory.mktemp("template")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Registry(Settings(home=home)).versions("late")
    with sqlite3.connect(home / "rayplat.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return (home / "rayplat.db").read_bytes()


@pytest.fixture
def settings(tmp_path, template):
    (tmp_path / "rayplat.db").write_bytes(template)
    return Settings(home=tmp_path)


@pytest.fixture
def registry(settings):
    return Registry(settings)


def test_a_run_is_written_once_and_found_by_its_key(registry):
    assert registry.find_run(KEY) is None
    version = log_and_register(registry)
    again = log_and_register(registry)
    assert (version.version, version.run_id) == (1, again.run_id)
    assert [v.version for v in registry.versions("late")] == [1]
    run = registry.find_run(KEY)
    assert run is not None
    assert run.run_id == version.run_id
    assert run.metrics["roc_auc"] == 0.8
    assert run.metrics["test.roc_auc"] == 0.8
    assert run.params == {"lr": "0.1"}
    assert run.tags["note"] == "x"
    assert run.artifact_uri == version.artifact_uri
    assert registry.curves(run.run_id, ["train_loss"]) == {"train_loss": [(0, 0.7), (1, 0.5)]}


def test_another_run_is_another_version_and_aliases_move(registry):
    log_and_register(registry)
    second = log_and_register(registry, "b" * 64, "d2")
    assert second.version == 2
    assert registry.by_alias("late", "champion") is None
    assert registry.set_alias("late", "champion", 1, "ops", "first") is None
    assert registry.set_alias("late", "champion", 2, "ops", "better") == 1
    champion = registry.by_alias("late", "champion")
    assert champion is not None
    assert (champion.version, champion.manifest_sha256, champion.aliases) == (2, "d2", ("champion",))
    assert registry.version("late", 1).aliases == ()


def test_what_is_not_there_is_named(registry):
    assert registry.by_alias("nothing", "champion") is None
    assert registry.versions("nothing") == []
    with pytest.raises(NotFoundError, match="version 7 of the model 'late'"):
        registry.version("late", 7)
    with pytest.raises(NotFoundError):
        registry.set_alias("late", "champion", 7, "ops", "no")
    with pytest.raises(NotFoundError, match="no run"):
        registry.run("nope")


def test_a_key_with_another_manifest_is_a_conflict(registry):
    log_and_register(registry)
    with pytest.raises(ConflictError, match="manifest d1"):
        log_and_register(registry, digest="d2")


CHILD = """
import os, signal, sys
from pathlib import Path
from rayplat.core.settings import Settings
from rayplat.registry.store import Registry
home, at, key = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def step(name):
    if name == at:
        os.kill(os.getpid(), signal.SIGKILL)
registry = Registry(Settings(home=home), step=step)
uri = registry.artifact_uri("late", key)
curves = {"train_loss": [(0, 0.7), (1, 0.5)]}
run_id = registry.log_run(
    "late", key, params={"lr": 0.1}, metrics={}, curves=curves, tags={}, artifact_uri=uri
)
registry.register("late", run_id, uri, "d1", key)
"""


def run_child(home: Path, at: str) -> int:
    return subprocess.run([sys.executable, "-c", CHILD, str(home), at, KEY], check=False).returncode


@pytest.mark.parametrize(
    "at", ["run_created", "run_logged", "run_finished", "model_created", "version_created", "version_settled"]
)
def test_killed_at_any_step_and_run_again_there_is_one_version(settings, at):
    assert run_child(settings.home, at) == -signal.SIGKILL
    registry = Registry(settings)
    version = log_and_register(registry)
    assert version.version == 1
    assert [v.version for v in registry.versions("late")] == [1]
    client = registry._client
    experiment = client.get_experiment_by_name("late")
    runs = client.search_runs([experiment.experiment_id])
    assert [(r.info.status, r.info.run_id) for r in runs] == [("FINISHED", version.run_id)]
    assert registry.curves(version.run_id, ["train_loss"]) == {"train_loss": [(0, 0.7), (1, 0.5)]}


def test_two_that_register_at_once_agree_on_one_version(settings):
    """Both have seen no version before either writes; the barrier makes sure of it."""
    barrier = threading.Barrier(2)
    got = []

    def wait(name: str) -> None:
        if name == "model_created":
            barrier.wait(10)

    first = Registry(settings)
    run_id = first.log_run("late", KEY, params={}, metrics={}, curves={}, tags={}, artifact_uri="file:///x")
    first._client.create_registered_model("late")

    def register() -> None:
        got.append(Registry(settings, step=wait).register("late", run_id, "file:///x", "d1", KEY).version)

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [1, 1]
    assert [v.version for v in first.versions("late")] == [1]


def test_killed_while_the_tables_are_made_the_next_open_makes_them(tmp_path):
    """Kill the first open of a database at a random moment; whatever was left, the next one works."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    (tmp_path / "rayplat.db").touch()
    with sqlite3.connect(tmp_path / "rayplat.db") as database:
        database.execute("CREATE TABLE iceberg_tables (name TEXT)")
        database.execute("INSERT INTO iceberg_tables VALUES ('raw.x')")
    database.close()
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), "never", KEY])
    time.sleep(random.Random(seed).uniform(1.5, 5.0))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert log_and_register(Registry(Settings(home=tmp_path))).version == 1
    assert has_tables(tmp_path / "rayplat.db")
    with sqlite3.connect(tmp_path / "rayplat.db") as database:
        assert database.execute("SELECT name FROM iceberg_tables").fetchall() == [("raw.x",)]
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_nothing_is_sent_to_anybody_and_the_light_modules_stay_light():
    code = """
import sys
import rayplat.registry.model, rayplat.registry.store, rayplat.registry.artifact
assert "mlflow" not in sys.modules and "torch" not in sys.modules, "heavy at import"
from rayplat.registry.store_database import open_client
import tempfile
with tempfile.TemporaryDirectory() as folder:
    open_client(f"sqlite:///{folder}/x.db")
    from mlflow.telemetry.client import get_telemetry_client
    assert get_telemetry_client() is None, "telemetry is on"
"""
    environment = {k: v for k, v in os.environ.items() if k not in {"CI", "PYTEST_CURRENT_TEST"}}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
