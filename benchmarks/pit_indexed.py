"""Point-in-time answers of the kept index: 1 M questions about 100 k entities with 5 M events.

Knows what is measured and against what; `point_in_time.py` runs it. Every sample maps the index's files anew,
and ends with a frame. Peers answer the same questions: Polars and DuckDB of sorted data in memory, and data
clustered by key and time in LZ4 files searched with NumPy (what a reader would write by hand).
`pit_index_extend_s` is the last hundredth of the events added to an index of the others, against the index of
all of them built anew, both until they are synced to disk; their arrays must be equal.
"""

import filecmp
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from harness import Claim, interleave
from pyarrow import feather

from rayplat.core.project.project import Project
from rayplat.core.project.source import Kafka
from rayplat.core.project.view import FeatureView
from rayplat.features.index import files
from rayplat.features.index.built import build
from rayplat.features.index.growth import Added, extended
from rayplat.features.plan import plan

SPAN_US = 30 * 86_400 * 1_000_000
START_US = 1_700_000_000_000_000
TIME = pl.Datetime("us", "UTC")
VALUES = ("amount", "balance", "score")


def view() -> FeatureView:
    types = {"key": "int64", "event": "timestamp", **dict.fromkeys(VALUES, "float64")}
    project = Project("benchmarks", owner="benchmarks@example.com")
    table = project.table(
        "raw.events", columns=types, key=("key", "event"), event_time="event", source=Kafka("events")
    )
    features = {name: pl.col(name) for name in VALUES}
    return project.feature_view("latest", source=table, entity="key", features=features)


def world(events: int, questions: int, keys: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Events in the order of their time (no two of a key at one time), and questions in any order."""
    pick = np.random.default_rng(7)
    at = np.unique(pick.integers(0, SPAN_US, events)) + START_US
    source = pl.DataFrame(
        {
            "key": pick.integers(0, keys, len(at)),
            "event": at,
            **{name: pick.standard_normal(len(at)) for name in VALUES},
        }
    ).with_columns(pl.col("event").cast(TIME))
    rows = pl.DataFrame(
        {"key": pick.integers(0, keys, questions), "at": pick.integers(0, SPAN_US, questions) + START_US}
    ).with_columns(pl.col("at").cast(TIME))
    return source, rows


def indexed_claim(quick: bool) -> list[Claim]:
    """`pit_indexed` (M rows/s), and the cost of an index: built, and extended (s)."""
    events, questions, keys = (1_000_000, 200_000, 20_000) if quick else (5_000_000, 1_000_000, 100_000)
    source, rows = world(events, questions, keys)
    folder, runs = Path(tempfile.mkdtemp(prefix="rayplat-index-")), range(1 if quick else 3)
    try:
        build(view(), source.head(1000))  # compiles
        # One after the other by turns: the disk is not equally fast at all times.
        turns = [(_built(source, folder / str(run)), _grown(source, folder, run)) for run in runs]
        seconds, grown = [built for built, _ in turns], [extended for _, extended in turns]
        candidates = _candidates(source, rows, folder)
        wanted = candidates["rayplat"]()
        for name, ask in candidates.items():
            assert _same(wanted, ask()), f"{name} answers otherwise"
        measured = {name: _rate(ask, questions) for name, ask in candidates.items()}
        samples = interleave(measured, 3 if quick else 9, 20 if quick else 120)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours = samples.pop("rayplat")
    note = f"{questions / 1e6:g} M questions, {events / 1e6:g} M events, {keys / 1e3:g} k keys"
    opened = samples.pop("open")
    extended = f"the last {events // 100 / 1e3:g} k of {events / 1e6:g} M events, synced to disk"
    return [
        Claim("pit_index_extend_s", "s", grown, {"built_anew": seconds}, note=extended),
        Claim("pit_indexed_open", "M rows/s", opened, higher_is_better=True, note="mapped before"),
        Claim("pit_indexed", "M rows/s", ours, samples, higher_is_better=True, note=note),
        Claim("pit_index_build_s", "s", seconds, note=f"{events / 1e6:g} M events, synced to disk"),
    ]


def _built(source: pl.DataFrame, folder: Path) -> float:
    begin = time.perf_counter()
    files.write(build(view(), source), folder, {})
    return time.perf_counter() - begin


def _grown(source: pl.DataFrame, folder: Path, run: int) -> float:
    """Extend an index from disk by the last hundredth, and write it to disk."""
    base, kept = folder / "base", folder / f"grown-{run}"
    cut = source.height - source.height // 100
    if run == 0:
        files.write(build(view(), source[:cut]), base, {})
    begin = time.perf_counter()
    opened = files.load(base, ranks=True)
    assert opened is not None
    made = extended(opened, view(), Added(source[cut:], later=True))
    assert made is not None
    files.write(made, kept, {})
    seconds = time.perf_counter() - begin
    for name in ("steps.bin", "starts.bin", "directory.bin"):
        assert filecmp.cmp(kept / name, folder / "0" / name, shallow=False), name
    shutil.rmtree(kept)
    return seconds


def _rate(ask: Callable[[], pl.DataFrame], questions: int) -> Callable[[], float]:
    def run() -> float:
        begin = time.perf_counter()
        ask()
        return questions / (time.perf_counter() - begin) / 1e6

    return run


def _same(ours: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    """Equal to the bit: floats are compared as the integers that their bits are."""
    bits = [frame.select(pl.all().reinterpret(signed=True)) for frame in (ours, theirs)]
    return bits[0].equals(bits[1], null_equal=True)


def _candidates(
    source: pl.DataFrame, rows: pl.DataFrame, folder: Path
) -> dict[str, Callable[[], pl.DataFrame]]:
    asked, names = view(), plan(view()).view.names
    kept = files.load(folder / "0")
    assert kept is not None

    def rayplat() -> pl.DataFrame:
        opened = files.load(folder / "0")
        assert opened is not None
        return opened.answer(rows, "at", asked)

    rising = source.sort("event")

    def polars() -> pl.DataFrame:
        # The join wants questions by time; the answer is put back in their order.
        ask = rows.with_row_index("n").sort("at")
        found = ask.join_asof(rising, left_on="at", right_on="event", by="key", check_sortedness=False)
        return found.sort("n").select(pl.col(v).alias(n) for v, n in zip(VALUES, names, strict=True))

    return {
        "rayplat": rayplat,
        "open": lambda: kept.answer(rows, "at", asked),
        "polars_in_memory": polars,
        "duckdb_in_memory": _duckdb(source, rows, names),
        "numpy_clustered_lz4": _clustered(source, rows, names, folder / "clustered.feather"),
    }


def _duckdb(source: pl.DataFrame, rows: pl.DataFrame, names: tuple[str, ...]) -> Callable[[], pl.DataFrame]:
    base = duckdb.connect()
    base.execute("SET enable_progress_bar = false")
    base.register("s", source.sort("key", "event").to_arrow())
    base.register("q", rows.with_row_index("n").to_arrow())
    base.execute("CREATE TABLE events AS SELECT * FROM s")
    base.execute("CREATE TABLE asked AS SELECT * FROM q")
    values = ", ".join(f"e.{v} AS {n}" for v, n in zip(VALUES, names, strict=True))
    text = f"""SELECT a.n, {values} FROM asked a ASOF LEFT JOIN events e
               ON a.key = e.key AND a.at >= e.event"""

    def ask() -> pl.DataFrame:
        return base.sql(text).pl().sort("n").select(names)

    return ask


def _clustered(
    source: pl.DataFrame, rows: pl.DataFrame, names: tuple[str, ...], path: Path
) -> Callable[[], pl.DataFrame]:
    by_key = source.sort("key", "event").with_columns(pl.col("event").cast(pl.Int64))
    feather.write_feather(by_key.to_arrow(), str(path), compression="lz4")
    span = 2 * SPAN_US

    def ask() -> pl.DataFrame:
        data: pa.Table = feather.read_table(str(path))
        key = data["key"].to_numpy()
        line = key * span + (data["event"].to_numpy() - START_US)
        asked = rows["key"].to_numpy()
        place = (
            np.searchsorted(line, asked * span + (rows["at"].to_physical().to_numpy() - START_US), "right")
            - 1
        )
        hit = (place >= 0) & (key[place] == asked)
        place = np.maximum(place, 0)
        columns = [
            pl.Series(name, data[value].to_numpy()[place]).set(pl.Series(~hit), None)
            for value, name in zip(VALUES, names, strict=True)
        ]
        return pl.DataFrame(columns)

    return ask
