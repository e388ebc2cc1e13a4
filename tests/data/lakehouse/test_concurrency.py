"""Many processes commit to one table at once: every commit is there, once, with its rows."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.migration import apply_table
from tests.data.lakehouse.lake_contract import NAME, stops
from tests.servers import fresh_database

WRITERS, COMMITS = 8, 50
WRITER = textwrap.dedent(
    """
    import json
    import sys
    import pyarrow as pa
    from rayplat.core.settings import Settings
    from rayplat.data.lakehouse.catalog import Lakehouse
    settings = Settings.model_validate(json.loads(sys.argv[1]))
    name, me, commits = sys.argv[2], sys.argv[3], int(sys.argv[4])
    lake = Lakehouse(settings)
    table = lake.table(name)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(commits):
        one = int(me) * commits + n
        rows = pa.table({"id": [one], "line": [me], "delay": pa.array([0.5], pa.float32())})
        print(table.append(rows, {"note": str(one)}), flush=True)
    lake.close()
    """
)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_eight_processes_of_fifty_commits_give_four_hundred(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    address = "" if database == "sqlite" else fresh_database(request.getfixturevalue("postgres_url"))
    settings = Settings(home=tmp_path / "home", database=address)
    lake = Lakehouse(settings)
    apply_table(lake, stops())
    argv = [sys.executable, "-W", "error", "-c", WRITER, settings.model_dump_json(), NAME]
    writers = [
        subprocess.Popen(
            [*argv, str(number), str(COMMITS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stderr is not None
            assert writer.stdout.readline() == "ready\n", writer.stderr.read()
        said = [writer.communicate("go\n", timeout=400) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
    assert [errors for _, errors in said] == [""] * WRITERS
    acknowledged = [int(line) for out, _ in said for line in out.split()]
    table = lake.table(NAME)
    history = table.history()
    assert len(acknowledged) == len(set(acknowledged)) == len(history) == WRITERS * COMMITS
    assert {one.snapshot_id for one in history} == set(acknowledged)
    assert sorted(int(one.properties["note"]) for one in history) == list(range(WRITERS * COMMITS))
    assert [one.rows_total for one in history] == list(range(1, WRITERS * COMMITS + 1))
    assert sorted(table.read(["id"])["id"].to_pylist()) == list(range(WRITERS * COMMITS))
    lake.close()
