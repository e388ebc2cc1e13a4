"""`features prove`: the log is proved, a difference is shown and ends with 1."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.commit import FencedCommitter
from rayplat.features.parity.log import open_feature_log, vector_lines
from rayplat.features.parity.report import Kind
from rayplat.features.plan import plan
from tests.cli.conftest import Ran

Run = Callable[..., Ran]

PROJECT = """
import polars as pl
import rayplat as rp

small = rp.Project("small", owner="ops@example.com")
events = small.table(
    "raw.events",
    key="entity",
    event_time="happened",
    columns={"entity": "string", "happened": "timestamp", "x": "float64"},
    source=rp.Kafka("events"),
)
last = small.feature_view("last", source=events, entity="entity", features={"x": pl.col("x") / 3})
"""
AT = datetime(2013, 3, 1, 12, tzinfo=UTC)


class Stood:
    """How far the store had come."""

    def __init__(self, snapshot_id: int) -> None:
        self.snapshot_id = snapshot_id
        self.offsets = {"0": 1}


@pytest.fixture
def served(tmp_path: Path) -> Callable[[float], Path]:
    """Makes a platform in which one value was served; gives the project's file."""

    def make(value: float) -> Path:
        file = tmp_path / "small.py"
        file.write_text(PROJECT)
        project = load_project(str(file))
        lake = Lakehouse(Settings(home=tmp_path))
        table = lake.ensure(project.tables[0])
        rows = pl.DataFrame({"entity": ["a"], "happened": [AT], "x": [5.0]}).with_columns(
            pl.col("happened").dt.cast_time_unit("us"),
            pl.lit(0, pl.Int32).alias("_partition"),
            pl.lit(0, pl.Int64).alias("_offset"),
        )
        files = table.write_files(rows.to_arrow(compat_level=pl.CompatLevel.oldest()))
        snapshot = FencedCommitter(lake, "raw.events", "test").commit(files, {}, {"0": 1})
        log = open_feature_log(Settings(home=tmp_path), lake)
        log.append(
            vector_lines(
                pl.DataFrame({"entity": ["a"]}),
                pl.DataFrame({"last__x": [value]}),
                AT,
                digests={"last": plan(project.views[0]).digest},
                standing={"last": Stood(snapshot)},
                caller="test",
            )
        )
        log.close()
        lake.close()
        return file

    return make


def test_what_was_served_rightly_is_proved(
    rayplat: Run, served: Callable[[float], Path], tmp_path: Path
) -> None:
    # Polars multiplies by the reciprocal; see rayplat.features.evaluate.
    file = served(5.0 * (1 / 3))
    ran = rayplat("--home", str(tmp_path), "features", "prove", str(file), "--all", "-o", "json")
    assert ran.code == 0, ran.out + ran.err
    assert (ran.data["features"]["vectors"], ran.data["features"]["identical"]) == (1, 1)


def test_a_wrong_bit_is_named_and_ends_with_1(
    rayplat: Run, served: Callable[[float], Path], tmp_path: Path
) -> None:
    file = served(1.75)
    ran = rayplat("--home", str(tmp_path), "features", "prove", str(file), "-o", "json")
    assert ran.code == 1
    finding = ran.data["features"]["findings"][0]
    assert finding["feature"] == "last__x"
    assert finding["cause"]["kind"] == Kind.VALUE
    told = rayplat("--home", str(tmp_path), "features", "prove", str(file), "--view", "last")
    assert told.code == 1
    assert "last__x" in told.out


def test_views_and_samples_are_checked(rayplat: Run, served: Callable[[float], Path], tmp_path: Path) -> None:
    file = served(1.75)
    assert rayplat("--home", str(tmp_path), "features", "prove", str(file), "--view", "no").code == 3
    assert (
        rayplat("--home", str(tmp_path), "features", "prove", str(file), "--all", "--sample", "3").code == 2
    )
