"""A project whose model reads the asking row alone, with a registered version of known weights."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.definition import digest
from rayplat.registry.artifact import write_artifact
from rayplat.registry.manifest import CodePin, FeaturePin, Manifest, TrainingPin
from rayplat.registry.model import RegisteredVersion
from rayplat.registry.profile import profile_of
from rayplat.registry.store import Registry

PROJECT = """
import polars as pl
import torch

import rayplat as rp

meters = rp.Project("meters", owner="ops@example.com")
readings = meters.table(
    "raw.readings",
    key="reading",
    event_time="read_at",
    columns={"reading": "int64", "read_at": "timestamp", "a": "float64", "b": "float64", "c": "float64"},
    source=rp.Kafka("readings", partitions=1),
)
leaks = meters.table(
    "raw.leaks",
    key="reading",
    event_time="told",
    columns={"reading": "int64", "told": "timestamp", "leak": "bool"},
    source=rp.Kafka("leaks", partitions=1),
)
row = meters.request_view(
    "row",
    source=readings,
    features={
        "a": pl.col("a"),
        "ratio": pl.col("a") / (pl.col("b").abs() + 1.0),
        "product": pl.col("b") * pl.col("c"),
        "log_c": (pl.col("c").abs() + 1.0).log(),
        "hour": pl.col("read_at").dt.hour(),
    },
)


def network(inputs):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(inputs, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32), torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )


@meters.model(
    "leak",
    rows=readings,
    label=rp.Label(leaks, pl.col("leak"), on="reading"),
    features=[row],
    train_until="2024-02-01",
    test_until="2024-03-01",
    network=network,
)
def train(run):
    raise NotImplementedError
"""
DAY = datetime(2024, 3, 1, tzinfo=UTC)


def make(home: Path, settings: Settings) -> tuple[Project, RegisteredVersion]:
    """The project in a folder of `home`, and its version 1."""
    folder = home / "meters"
    folder.mkdir(parents=True)
    (folder / "project.py").write_text(PROJECT)
    project = load_project(str(folder))
    model = project.models[0]
    registry = Registry(settings)
    run_key = hashlib.sha256(b"rows").hexdigest()
    manifest = Manifest(
        model=model.name,
        run_key=run_key,
        features=tuple(FeaturePin(view=v.name, digest=digest(v), names=v.names) for v in model.features),
        inputs=model.feature_names,
        training=TrainingPin(table="training.leak", snapshot_id=7, digest="d" * 64, sources={}),
        code=CodePin(git_commit="c0ffee", dirty=False, project="meters", project_sha256="e" * 64),
        environment={"torch": torch.__version__},
        metrics={"roc_auc": 0.9},
        baselines={},
        created_at=DAY,
        profile={name: profile_of(np.linspace(0, 1, 2000)) for name in model.feature_names},
    )
    uri = registry.artifact_uri(model.name, run_key)
    sha256 = write_artifact(uri, model.network(len(manifest.inputs)).state_dict(), manifest)
    run = registry.log_run(
        model.name, run_key, params={}, metrics=manifest.metrics, curves={}, tags={}, artifact_uri=uri
    )
    return project, registry.register(model.name, run, uri, sha256, run_key)


def readings(rows: int, first: int = 0) -> pa.Table:
    """Rows of the table, numbered from `first`."""
    rng = np.random.default_rng(first)
    start = int(DAY.timestamp()) * 1_000_000
    at = start + np.arange(first, first + rows, dtype=np.int64) * 1_000_000
    return pa.table(
        {
            "reading": np.arange(first, first + rows),
            "read_at": pa.array(at).cast(pa.timestamp("us", "UTC")),
            **{name: rng.normal(size=rows) for name in ("a", "b", "c")},
        }
    )


def fill(settings: Settings, files: int, rows: int) -> Lakehouse:
    """A lakehouse whose table of readings has so many files of so many rows."""
    lake = Lakehouse(settings)
    table = lake.ensure_schema("raw.readings", readings(0).schema)
    for i in range(files):
        table.append(readings(rows, i * rows))
    return lake
