"""A small world for tests: a project, tables with rows, materialized features and a registered model."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from rayplat.core.project.load import load_project
from rayplat.core.project.project import Project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.features.definition import digest
from rayplat.features.materialize import materialize
from rayplat.features.online.opening import open_online
from rayplat.registry.artifact import write_artifact
from rayplat.registry.manifest import CodePin, FeaturePin, Manifest, TrainingPin
from rayplat.registry.profile import profile_of
from rayplat.registry.store import Registry

DAY = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)

PROJECT = """
import polars as pl
import torch

import rayplat as rp

shop = rp.Project("shop", owner="ops@example.com")
prices = shop.table(
    "raw.prices",
    key=("shop", "seen"),
    event_time="seen",
    columns={"shop": "string", "seen": "timestamp", "price": "float64"},
    source=rp.Kafka("prices", partitions=1),
)
visits = shop.table(
    "raw.visits",
    key="visit_id",
    event_time="asked",
    columns={"visit_id": "int64", "asked": "timestamp", "shop": "string", "amount": "float64"},
    source=rp.Kafka("visits", partitions=1),
)
outcomes = shop.table(
    "raw.outcomes",
    key="visit_id",
    event_time="told",
    columns={"visit_id": "int64", "told": "timestamp", "bought": "bool"},
    source=rp.Kafka("outcomes", partitions=1),
)
price = shop.feature_view("price", source=prices, entity="shop", features={"last": pl.col("price")})
trend = shop.feature_view(
    "trend", source=prices, entity="shop", features={"mean_3h": rp.window("3h").mean("price")}
)
visit = shop.request_view("visit", source=visits, features={"amount": pl.col("amount")})


class Net(torch.nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, 1)

    def forward(self, x):
        return self.linear(torch.nan_to_num(x)).squeeze(-1)


@shop.model(
    "buys",
    rows=visits,
    label=rp.Label(outcomes, pl.col("bought"), on="visit_id"),
    features=[price, trend, visit],
    train_until="2024-02-01",
    test_until="2024-03-01",
    network=Net,
)
def train(run):
    raise NotImplementedError


shop.endpoint("buys", model="buys", autoscale=rp.Autoscale(cpus=0.1))
shop.monitor("buys", endpoint="buys")
"""

WEIGHTS = (0.5, -0.25, 1.0)
BIAS = -1.0


@dataclass(frozen=True)
class World:
    settings: Settings
    project: Project
    lake: Lakehouse
    registry: Registry

    def add(self, table: str, columns: dict[str, list[object]]) -> int:
        """Commit rows as an ingest does: partition 0, offsets that go on."""
        declared = next(t for t in self.project.tables if t.name == table)
        kept = self.lake.ensure(declared)
        committer = FencedCommitter(self.lake, table, "kafka")
        before = committer.committed()
        start, rows = before.get("0", 0), len(next(iter(columns.values())))
        system = {"_partition": [0] * rows, "_offset": list(range(start, start + rows))}
        data = pa.table({f.name: pa.array({**columns, **system}[f.name], f.type) for f in kept.schema()})
        return committer.commit(kept.write_files(data), before, {"0": start + rows})

    def materialize(self) -> None:
        online = open_online(self.settings)
        materialize(self.lake, online, self.project.views, None)
        online.close()

    def register(self, key: str = "a", bias: float = BIAS, **changes: object) -> int:
        """Register a version with known weights; returns its number."""
        model = self.project.models[0]
        rng = np.random.default_rng(1)
        run_key = hashlib.sha256(key.encode()).hexdigest()
        manifest = Manifest(
            model=model.name,
            run_key=run_key,
            features=tuple(FeaturePin(view=v.name, digest=digest(v), names=v.names) for v in model.features),
            inputs=model.feature_names,
            training=TrainingPin(table="training.buys", snapshot_id=7, digest="d" * 64, sources={}),
            code=CodePin(git_commit="c0ffee", dirty=False, project="shop", project_sha256="e" * 64),
            environment={"torch": torch.__version__},
            metrics={"roc_auc": 0.9, "pr_auc": 0.8, "log_loss": 0.3, "calibration_error": 0.02},
            baselines={},
            created_at=DAY,
            profile={name: profile_of(rng.normal(size=2000)) for name in model.feature_names},
        ).model_copy(update=changes)
        tensors = {"linear.weight": torch.tensor([WEIGHTS]), "linear.bias": torch.tensor([bias])}
        uri = self.registry.artifact_uri(model.name, run_key)
        sha256 = write_artifact(uri, tensors, manifest)
        run = self.registry.log_run(
            model.name, run_key, params={}, metrics=manifest.metrics, curves={}, tags={}, artifact_uri=uri
        )
        return self.registry.register(model.name, run, uri, sha256, run_key).version

    def crown(self, version: int) -> int | None:
        return self.registry.set_alias("buys", "champion", version, "risk@example.com", "all gates passed")


def make_world(home: Path, settings: Settings | None = None) -> World:
    folder = home / "shop"
    folder.mkdir(parents=True)
    (folder / "project.py").write_text(PROJECT)
    settings = settings or Settings(home=home)
    world = World(settings, load_project(str(folder)), Lakehouse(settings), Registry(settings))
    world.add(
        "raw.prices",
        {
            "shop": ["north", "north", "south"],
            "seen": [DAY, DAY + 2 * HOUR, DAY + HOUR],
            "price": [1.0, 3.0, 10.0],
        },
    )
    world.materialize()
    return world


def expected(last: float, mean_3h: float, amount: float, bias: float = BIAS) -> float:
    """The probability that the registered network gives."""
    logit = WEIGHTS[0] * last + WEIGHTS[1] * mean_3h + WEIGHTS[2] * amount + bias
    return float(1 / (1 + np.exp(-logit)))
