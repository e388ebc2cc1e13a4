"""Features over the real lakehouse: identity of training sets, and materialization that is killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rayplat.core.events import EventBus
from rayplat.core.project.table import Table
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.features.materialize import materialize
from rayplat.features.online.lmdb_store import LmdbOnlineStore
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore
from rayplat.features.serving import get_online_features
from rayplat.features.training_rows import content_digest
from rayplat.features.training_set import build_training_set
from tests.features import materializing
from tests.features.oracle import Event
from tests.features.test_training_set import ENDS, TRIPS, declare, ends, trips
from tests.features.worlds import frame, hour, source_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lake(tmp_path: Path):
    opened = Lakehouse(Settings(home=tmp_path))
    yield opened
    opened.close()


def tell(lake: Lakehouse, table: Table, rows: pl.DataFrame) -> int:
    written = lake.ensure(table).write_files(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
    committer = FencedCommitter(lake, table.name, "test")
    ends_at = rows.group_by("_partition").agg(pl.col("_offset").max() + 1).rows()
    return committer.commit(written, committer.committed(), {str(p): end for p, end in ends_at})


def test_a_training_set_is_built_once_whatever_comes_later(lake: Lakehouse):
    tell(lake, TRIPS, trips((1, "a", 1, 5.0), (2, "a", 4, 20.0), (4, "a", 11, 30.0)))
    tell(lake, ENDS, ends((1, "a", 2, 3, 9.0), (2, "a", 5, 6, 1.0), (4, "a", 13, 14, 6.0)))
    first = build_training_set(lake, declare(), EventBus())
    assert (first.rows_train, first.rows_test, first.unlabelled) == (2, 1, 0)
    made = pl.DataFrame(lake.table(first.table).read(snapshot_id=first.snapshot_id))
    assert content_digest(made) == first.digest
    tell(lake, TRIPS, trips((8, "a", 22, 1.0), first=3))
    tell(lake, ENDS, ends((8, "a", 23, 24, 1.0), first=3))
    assert build_training_set(lake, declare(), EventBus()) == first
    tell(lake, ENDS, ends((2, "a", 6, 7, 50.0), first=4))
    second = build_training_set(lake, declare(), EventBus())
    assert second.snapshot_id != first.snapshot_id
    assert len(lake.table(first.table).history()) == 2
    # A feature that is dropped, and comes back, with the table as it is.
    without = build_training_set(lake, declare(features=declare().features[:1]), EventBus())
    assert without.rows_train == 2
    assert build_training_set(lake, declare(), EventBus()) == second


def values(store: OnlineStore) -> list[object]:
    """What a store answers about all entities, now and before, and how far it has come."""
    requests = [{"entity": f"e{i}"} for i in range(20)]
    found: list[object] = [store.views()]
    for at in (49, 55.5, 60, 64, 69, 100):
        answered = get_online_features(store, materializing.VIEWS, requests, hour(at))
        found += [answered.frame.rows(), answered.provenance]
    return found


def test_a_killed_materialization_continues_to_the_values_of_a_clean_run(lake: Lakehouse, tmp_path: Path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    table = source_table()
    for commit in range(10):
        tell(
            lake,
            table,
            frame(
                [
                    Event(
                        f"e{rng.integers(20)}", hour(t), hour(t + d), i % 2, commit * 500 + i // 2, float(i)
                    )
                    for i, (t, d) in enumerate(
                        zip(
                            rng.integers(0, 60, 1000).tolist(), rng.integers(0, 9, 1000).tolist(), strict=True
                        )
                    )
                ]
            ),
        )
    kills = 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.features.materializing", str(tmp_path)]
    for attempt in range(3):
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        if attempt < 2:
            time.sleep(float(rng.uniform(0.05, 0.4)))
            child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout.close()
    assert child.returncode == 0
    assert kills > 0
    killed = open_online(Settings(home=tmp_path))
    clean = LmdbOnlineStore(f"lmdb:///{tmp_path}/clean")
    reports = materialize(lake, clean, materializing.VIEWS)
    assert [r.rows for r in reports] == [10_000, 10_000]
    assert values(killed) == values(clean)
    assert [r.rows for r in materialize(lake, killed, materializing.VIEWS)] == [0, 0]
    killed.close()
    clean.close()
