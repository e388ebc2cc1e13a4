"""Feast's historical features beside rayplat's: 1 M rows, 5 M events, 100 k keys, from the same files.

Run: .venv/bin/python benchmarks/pit_feast.py [--json] [--quick]

The world is that of `pit_from_files` (benchmarks/point_in_time.py): one view, two values, no row late and no
two equal. Feast answers by its DuckDB offline store in a process and an environment of its own:
`get_historical_features(...).to_arrow()` is timed there, imports and `apply` are not. It gives rows in an
order of its own; the answers must be equal to the bit when they are put in the asking order, which is not
timed. Feast takes its asking rows as a pandas frame, rayplat as a Polars frame.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from harness import Claim, interleave, main, peer_python
from pit_peers import VALUES
from pit_world import store, world
from point_in_time import declared, features, rate, sizes, to_bits

FEAST = ["feast[duckdb]==0.58.0", "pandas<3", "protobuf<7", "setuptools<80"]

_ANSWER = """
import sys, time
from datetime import timedelta
import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.data_format import ParquetFormat
from feast.types import Float64, Int64
from feast.value_type import ValueType
home, events = sys.argv[1:]
store = FeatureStore(repo_path=home)
key = Entity(name="key", join_keys=["key"], value_type=ValueType.INT64)
source = FileSource(path=events, file_format=ParquetFormat(), timestamp_field="event_time")
schema = [Field(name="x0", dtype=Float64), Field(name="n0", dtype=Int64)]
view = FeatureView(
    name="plain", entities=[key], schema=schema, source=source, ttl=timedelta(0), online=False
)
store.apply([key, view])
asked = pd.read_parquet(f"{home}/asked.parquet").rename(columns={"at": "event_timestamp"})
wanted = ["plain:x0", "plain:n0"]
print("ready", flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    table = store.get_historical_features(entity_df=asked, features=wanted).to_arrow()
    seconds = time.perf_counter() - begin
    if line.strip() == "write":
        pq.write_table(table.select(["n", "x0", "n0"]), f"{home}/answer.parquet")
    print(f"seconds {seconds}", flush=True)
"""


class Feast:
    """Feast's process.

    Args:
        process: reads a line a question, and prints how many seconds its answer took.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, line: str = "ask") -> float:
        """Seconds of one answer; `write`: it is also written."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self.told("seconds"))

    def told(self, word: str) -> str:
        """The rest of the next line that begins with a word."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise SystemExit("Feast has ended")


@contextmanager
def feast(home: Path, rows: pl.DataFrame, events: str) -> Iterator[Feast]:
    """Feast over the events' files; it knows the asking rows."""
    python = peer_python("feast_duckdb", FEAST)
    home.mkdir()
    rows.with_row_index("n").write_parquet(home / "asked.parquet")
    (home / "feature_store.yaml").write_text(
        "project: bench\nregistry: registry.db\nprovider: local\noffline_store:\n  type: duckdb\n"
        "online_store:\n  type: sqlite\n  path: online.db\nentity_key_serialization_version: 3\n"
    )
    argv = [python, "-W", "ignore", "-c", _ANSWER, home, events]
    with subprocess.Popen(
        [str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    ) as process:
        try:
            found = Feast(process)
            found.told("ready")
            yield found
        finally:
            process.kill()


def measure(quick: bool) -> Sequence[Claim]:
    rows_n, events_n, keys = sizes(quick)
    rows, events = world(rows_n, events_n, keys, 1)
    types = {"key": "int64", "event_time": "timestamp", "x0": "float64", "n0": "int64"}
    with tempfile.TemporaryDirectory(prefix="rayplat-pit-") as folder:
        stored = store(Path(folder) / "lake", {"raw.plain": events})
        paths = stored.paths["raw.plain"]
        where = paths[0] if len(paths) == 1 else f"{Path(paths[0]).parent}/*.parquet"
        ours = features(stored, rows, [declared("plain", types, None, None)])
        with feast(Path(folder) / "feast", rows, where) as peer:
            peer.ask("write")
            _compare(ours(), Path(folder) / "feast" / "answer.parquet")
            samples = interleave(
                {"rayplat": rate(ours, rows_n), "feast": lambda: rows_n / peer.ask() / 1e6},
                2 if quick else 4,
                20 if quick else 35,
            )
    note = "1 view, 2 values, as pit_from_files; Feast by its DuckDB store"
    found = samples.pop("rayplat")
    return [Claim("pit_from_files_feast", "M rows/s", found, samples, higher_is_better=True, note=note)]


def _compare(ours: pl.DataFrame, answer: Path) -> None:
    """Feast's rows, put in the asking order, are ours to the bit."""
    theirs = pl.read_parquet(answer).sort("n")
    # A missing integer has made the column one of floats in pandas.
    theirs = theirs.select(pl.col("x0").fill_nan(None), pl.col("n0").cast(pl.Int64))
    if theirs.height != ours.height:
        raise SystemExit(f"Feast gives {theirs.height:,} rows of {ours.height:,}")
    if not to_bits(theirs.select(VALUES)).equals(to_bits(ours), null_equal=True):
        raise SystemExit("Feast answers otherwise")


if __name__ == "__main__":
    main(measure, "Feast's historical features beside rayplat's.")
