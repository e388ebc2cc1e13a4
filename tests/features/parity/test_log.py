"""The feature log: exact values, one commit a spool, and a process that is killed."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from rayplat.core.errors import UnavailableError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.parity.backlog import FEW, BacklogError
from rayplat.features.parity.compare import differing
from rayplat.features.parity.journal import Entry
from rayplat.features.parity.log import FeatureLog, open_feature_log
from rayplat.features.parity.vectors import (
    VECTORS,
    FeatureVectors,
    Predictions,
    decode_column,
    decode_rows,
    encode_rows,
)
from tests.features.fakes import FakeLake
from tests.features.parity.logging_vectors import AT, lines

ROOT = Path(__file__).parents[3]


def test_values_come_back_to_the_bit():
    frame = pl.DataFrame(
        {
            "f": [0.1, -0.0, math.nan, math.inf, -math.inf, None, 5e-324],
            "f32": pl.Series([0.1, -0.0, math.nan, None, 1.0, 2.0, 3.0], dtype=pl.Float32),
            "i": [1, -(2**63), 2**63 - 1, None, 0, 1, 2],
            "b": [True, False, None, True, True, False, False],
            "s": ["a", "", "NaN", None, "ä", "\n", "b"],
            "t": pl.Series(
                [datetime(2013, 1, 1, 0, 0, 0, 1, tzinfo=UTC), *[None] * 6], dtype=pl.Datetime("us", "UTC")
            ),
            "d": [date(2013, 1, 1), *[None] * 6],
            "v": pl.Series(
                [[1.0, math.nan], [], None, [-0.0], [2.5], [1e300], [0.0]], dtype=pl.List(pl.Float64)
            ),
            "raw": [b"\x00\xff", *[None] * 6],
            "length": pl.Series([timedelta(microseconds=3), *[None] * 6], dtype=pl.Duration("us")),
        }
    )
    rows = decode_rows(encode_rows(frame))
    for series in frame:
        back = decode_column(series.name, [row[series.name] for row in rows], series.dtype)
        assert back is not None, series.name
        assert not differing(series, back).any(), (series, back)
    assert decode_column("x", ["a"], pl.Float64()) is None
    assert decode_column("x", [1.5], pl.Int64()) is None


def test_rows_of_plain_columns_come_back_to_the_bit():
    drawn = np.random.default_rng(20_130_101)
    floats = drawn.integers(-(2**63), 2**63 - 1, 20_000).view(np.float64)
    floats = [*floats[np.isfinite(floats)].tolist(), 0.0, -0.0, 5e-324, 1e16, 1e22, 2.0**53, None]
    count = len(floats)
    frame = pl.DataFrame(
        {
            'v__f"': pl.Series(floats, dtype=pl.Float64),
            "i": pl.Series([None, *drawn.integers(-(2**63), 2**63 - 1, count - 1).tolist()], dtype=pl.Int64),
            "b": [None if n % 3 == 0 else n % 3 == 1 for n in range(count)],
            "s": [None if n % 5 == 0 else '"\\\n\u2028\x01ä\U0001f600' * (n % 3) for n in range(count)],
        }
    )
    rows = decode_rows(encode_rows(frame))
    for series in frame:
        back = decode_column(series.name, [row[series.name] for row in rows], series.dtype)
        assert back is not None, series.name
        assert not differing(series, back).any(), series.name


@pytest.mark.parametrize(
    ("left", "right"), [(0.0, -0.0), (None, math.nan), (None, 0.0), (1.0, math.nextafter(1.0, 2.0))]
)
def test_the_last_bit_counts(left, right):
    assert differing(pl.Series([left], dtype=pl.Float64), pl.Series([right], dtype=pl.Float64)).all()
    assert not differing(pl.Series([right], dtype=pl.Float64), pl.Series([right], dtype=pl.Float64)).any()


def test_vectors_are_committed_by_number_and_at_the_end(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake, rows=10, seconds=60)
    for number in range(25):
        log.append(lines(number))
    log.close()
    log.close()
    assert sorted(numbers(lake)) == list(range(25))
    assert len(lake.table(VECTORS).history()) == 3
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnavailableError):
        log.submit(lines(1))


def test_what_waits_of_either_way_is_one_backlog(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake, much_waiting=100)
    (tmp_path / "left.answers").write_bytes(bytes(60))
    many = b"".join(lines(number) for number in range(FEW + 1))
    log.append(many)
    with pytest.raises(BacklogError) as refused:
        log.append(many)
    assert refused.value.retry_after_s >= 1
    entry = Entry("v", lambda _standing: None, 0, None, range(FEW + 1))
    with pytest.raises(BacklogError):
        log.journal().admit([entry])
    log.append(lines(FEW + 1))  # few go on
    log.close()
    assert sorted(numbers(lake)) == list(range(FEW + 2))


def test_vectors_are_committed_after_a_time(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake, seconds=0.05)
    log.append(lines(0))
    deadline = time.monotonic() + 5
    while not (lake.exists(VECTORS) and numbers(lake)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert numbers(lake) == [0]
    log.close()


class Away(FakeLake):
    """A lakehouse that does not answer for a while."""

    away = True

    def ensure_schema(self, name, schema):
        if self.away:
            raise UnavailableError("away")
        return super().ensure_schema(name, schema)


def test_a_lakehouse_that_is_away_keeps_nobody_waiting_and_loses_nothing(tmp_path):
    lake = Away()
    log = FeatureLog(tmp_path, lake, rows=1)
    log.append(lines(0))
    log.append(lines(1))
    with pytest.raises(UnavailableError):
        log.close()
    lake.away = False
    assert log.recover() == 2
    assert sorted(numbers(lake)) == [0, 1]


def test_a_spool_that_a_snapshot_names_is_not_committed_again(tmp_path):
    lake = FakeLake()
    log = FeatureLog(tmp_path, lake)
    log.append(lines(0))
    log.close()
    spool = lake.table(VECTORS).history()[0].properties["rayplat.feature_log.spool"]
    (tmp_path / spool).write_bytes(lines(0))
    assert open_feature_log(Settings(home=tmp_path), lake).recover() == 0
    assert FeatureLog(tmp_path, lake).recover() == 0
    assert numbers(lake) == [0]


def test_half_a_line_of_a_killed_process_is_left_out(tmp_path):
    lake = FakeLake()
    (tmp_path / "prd_0.spool").write_bytes(lines(0) + lines(1)[:40])
    assert FeatureLog(tmp_path, lake).recover() == 1
    assert numbers(lake) == [0]


def numbers(lake) -> list[int]:
    rows = FeatureVectors(lake).read(None, None)
    return [int(orjson.loads(text)["last__x"]) for text in rows.get_column("features").to_list()]


def test_a_log_that_nobody_wrote_is_empty():
    assert FeatureVectors(FakeLake()).read(None, None).height == 0
    assert Predictions(FakeLake(), "e").read(AT, AT).height == 0


def test_killed_at_any_moment_every_told_vector_is_there_once(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    command = [sys.executable, "-m", "tests.features.parity.logging_vectors", str(tmp_path)]
    told: list[int] = []
    for _ in range(2):
        child = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0.3, 0.8))
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split("\n") if line]
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
    lake = Lakehouse(Settings(home=tmp_path))
    FeatureLog(tmp_path / "spools", lake).recover()
    have = numbers(lake)
    lake.close()
    assert told
    for number in set(told):
        assert have.count(number) >= told.count(number)
    # A vector may be in the spool although the process died before it could say so: one a process.
    assert len(have) <= len(told) + 2
