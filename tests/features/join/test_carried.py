"""Values that travel with the rows are those that are looked up afterwards, to the bit."""

from datetime import timedelta

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from rayplat.features.instants import asked_at
from rayplat.features.join.carried import pays
from rayplat.features.join.parts import FramePart
from rayplat.features.join.stream import Asking, Source, features
from rayplat.features.plan import plan
from rayplat.features.questions import keys_as
from tests.features.worlds import TIME, hour, project

COLUMNS = {
    "small": "int16",
    "flag": "bool",
    "real": "float32",
    "day": "date",
    "wide": "float64",
    "text": "string",
}
DTYPES = {"small": pl.Int16, "flag": pl.Boolean, "real": pl.Float32, "day": pl.Date, "wide": pl.Float64}


def world(rng: np.random.Generator, rows: int, nulls: float) -> pl.DataFrame:
    event = rng.integers(0, 300, rows)
    known = event + np.where(rng.random(rows) < 0.2, rng.integers(0, 30, rows), 0)
    made = pl.DataFrame(
        {
            "k": rng.integers(0, 40, rows),
            "t": [hour(int(h)) for h in event],
            "seen": [hour(int(h)) for h in known],
            "small": rng.integers(-9, 9, rows),
            "flag": rng.random(rows) < 0.5,
            "real": rng.random(rows),
            "day": rng.integers(-900, 900, rows),
            "wide": rng.choice([0.0, -0.0, np.nan, 1.5], rows),
            "text": rng.choice(["a", "b"], rows),
            "_partition": np.zeros(rows, np.int32),
            "_offset": np.arange(rows),
        },
        schema_overrides={"t": TIME, "seen": TIME},
    ).with_columns(*(pl.col(name).cast(kind) for name, kind in DTYPES.items()))
    gone = [pl.when(pl.Series(rng.random(rows) >= nulls)).then(pl.col(name)).alias(name) for name in COLUMNS]
    return made.with_columns(*gone)


def view(names: list[str], ttl: timedelta | None, *, late: bool):
    columns = {"k": "int64", "t": "timestamp", "seen": "timestamp"} | COLUMNS
    table = project().table(
        "raw.carried", columns=columns, key=("k", "t"), event_time="t", known_at="seen" if late else None
    )
    return project().feature_view(
        "v", source=table, entity="k", ttl=ttl, features={name: pl.col(name) for name in names}
    )


def answered(asked: pl.DataFrame, of, source: pl.DataFrame, cut: int) -> pl.DataFrame:
    parts = [FramePart(source[i : i + cut]) for i in range(0, source.height, cut)]
    schema = source.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    ask = Asking(keys_as(source.select(of.entity).schema, asked, of.asks), asked_at(asked, "at"))
    return features([plan(of)], Source(of.source, schema, parts), ask)[0]


def bits(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(pl.Float64, pl.Float32).reinterpret(signed=True))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("ttl", [None, timedelta(hours=12)])
@pytest.mark.parametrize("nulls", [0.0, 0.3])
def test_carried_and_looked_up_are_the_same(late, in_order, ttl, nulls):
    rng, count = np.random.default_rng(31), 2_000
    source = world(rng, count, nulls)
    if nulls:
        # The first parts lack nothing: that something does is learnt under way.
        source = pl.concat([world(rng, count, 0.0), source])
    source = source.sort("seen" if late else "t", maintain_order=True)
    source = source.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("_offset"))
    asked = pl.DataFrame({"k": rng.integers(0, 45, count), "at": rng.integers(-5, 350, count)})
    asked = asked.with_columns(at=pl.lit(hour(0)).cast(TIME) + pl.duration(hours=pl.col("at")))
    asked = asked.sort("at") if in_order else asked
    four = ["small", "flag", "real", "wide"]
    # A text cannot be carried, so nothing is where one is wanted too.
    whole = answered(asked, view([*four, "day", "text"], ttl, late=late), source, 300)
    for names in (["wide"], ["day", "flag"], four):
        made = answered(asked, view(names, ttl, late=late), source, 300)
        assert bits(made).equals(bits(whole.select(made.columns)), null_equal=True)
        assert made.schema == whole.select(made.columns).schema
    assert 0 < whole.get_column("v__wide").null_count() < count


def test_few_columns_of_numbers_for_many_questions_are_carried():
    number, text = pa.float64(), pa.large_string()
    assert pays([number] * 4, 1_000_000, 100_000)
    assert not pays([number] * 5, 1_000_000, 100_000)
    assert not pays([number, text], 1_000_000, 100_000)
    assert not pays([number], 1_000_000, 1_000)
    assert not pays([number], 50_000_000, 20_000_000)
