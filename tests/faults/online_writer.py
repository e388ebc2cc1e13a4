"""A process that materializes views step by step into a store, and may be killed; see `test_online_kill`."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from rayplat.core.project.view import FeatureView
from rayplat.core.project.window import window
from rayplat.core.settings import Settings
from rayplat.features.online.apply import write_rows
from rayplat.features.online.kept import encode_schema
from rayplat.features.online.keys import store_key
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore, Progress
from rayplat.features.plan import plan
from rayplat.features.point_in_time import needed
from tests.features.oracle import Event
from tests.features.worlds import frame, hour, latest_view, project, source_table

STEP = 100


def views() -> Sequence[FeatureView]:
    """A view of row transforms and one of windows in tiles."""
    w = window("6h")
    features = {"sum": w.sum("x"), "last": w.last("x"), "distinct": window("30h").nunique("x")}
    tiled = project().feature_view("tiled", source=source_table(), entity="entity", features=features)
    return [latest_view(), tiled]


def world(seed: int) -> pl.DataFrame:
    """Rows of six entities, some late, in the order of their offsets."""
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.random(4_000) * 60)
    late = np.where(rng.random(4_000) < 0.2, rng.random(4_000) * 8, 0)
    values = rng.normal(size=4_000)
    return frame(
        [
            Event(f"e{i % 6}", hour(max(0.0, h - wait)), hour(h), 0, i, float(x))
            for i, (h, wait, x) in enumerate(zip(hours, late, values, strict=True))
        ]
    )


def run(store: OnlineStore, seed: int, told: "object | None" = None) -> None:
    """Write what the store has not yet, a step at a time; says `ready` on the connection before the first."""
    rows = world(seed)
    if told is not None:
        told.send("ready")  # type: ignore[attr-defined]
    for view in views():
        prepared = plan(view)
        key = store_key(prepared)
        reached = store.read(lambda reader, key=key: reader.progress(key))
        for start in range(reached.offsets["0"] if reached else 0, rows.height, STEP):
            source = needed(rows[start : start + STEP], prepared)
            done = Progress(start, {"0": start + STEP}, encode_schema(source))
            write_rows(store, prepared, source, done, expected=reached)
            reached = done


def main(url: str, home: str, seed: int, told: object) -> None:
    """The process."""
    store = open_online(Settings(home=home, online=url))
    run(store, seed, told)
    store.close()
