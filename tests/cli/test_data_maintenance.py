"""The upkeep's commands: their answers, their exit codes, and that a dry run changes nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from rayplat.cli.command import Call, group
from rayplat.cli.data_maintenance import add, modelled
from rayplat.cli.output import Format
from rayplat.core.errors import IntegrityError
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.data.lakehouse.table import LakeTable
from rayplat.registry.artifact import write_artifact
from rayplat.registry.manifest import CodePin, Manifest, TrainingPin
from rayplat.wiring import Platform, build_platform
from tests.cli.conftest import Ran

NAME = "raw.demo"
Run = Callable[..., Ran]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return build_platform(Settings(home=tmp_path / "home"))


@pytest.fixture
def demo(platform: Platform) -> LakeTable:
    one = platform.lake.ensure_schema(NAME, pa.schema([("k", pa.int64())]))
    for number in range(6):
        one.append(pa.table({"k": [number]}))
    return one


@pytest.fixture
def run(platform: Platform) -> Run:
    app = group("Upkeep.")
    add(app)
    root = typer.Typer(pretty_exceptions_enable=False)
    root.add_typer(app, name="data")

    def ran(*args: str, form: Format = Format.JSON) -> Ran:
        call = Call({"home": str(platform.settings.home)}, form)
        result = CliRunner().invoke(root, ["data", *args], obj=call)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return ran


def test_verify_lists_all_damage_and_ends_with_six(run: Run, demo: LakeTable) -> None:
    (whole,) = run("verify").data
    assert (whole["files"], whole["damaged"]) == (6, [])
    paths = sorted(Path(path.removeprefix("file://")) for path in demo.paths())
    paths[0].unlink()
    content = bytearray(paths[1].read_bytes())
    content[10] ^= 1
    paths[1].write_bytes(content)
    ran = run("verify", NAME)
    assert ran.code == 6
    assert sorted(one["kind"] for one in ran.data[0]["damaged"]) == ["digest", "missing"]
    assert ran.error["kind"] == "IntegrityError"
    shown = run("verify", "--all-snapshots", form=Format.TEXT)
    assert shown.code == 6
    assert paths[0].name in shown.out
    assert "1 rows: " in shown.out


def test_compact_shows_and_does(run: Run, demo: LakeTable) -> None:
    before = demo.snapshot_id()
    shown = run("compact", NAME, "--dry-run").data
    assert [p["files_before"] for p in shown["partitions"]] == [6]
    assert demo.snapshot_id() == before
    assert run("compact", NAME, "--min-files", "7").data["partitions"] == []
    done = run("compact", NAME).data
    assert [p["files_after"] for p in done["partitions"]] == [1]
    assert len(demo.paths()) == 1
    assert "none" in run("compact", NAME, form=Format.TEXT).out
    assert run("compact", "raw.nothing").code == 3


def test_expire_shows_and_does_what_is_asked(run: Run, demo: LakeTable) -> None:
    (nothing,) = run("expire").data
    assert nothing["expired"] == []
    (soon,) = run("expire", NAME, "--older-than", "0s", "--keep-last", "1", "--dry-run").data
    assert soon["expired"] == [], "a reader has an hour to finish"
    assert run("expire", "--older-than", "soon").code == 2
    assert "snapshots" not in run("expire", form=Format.TEXT).err
    assert len([one for one in demo.history() if one.live]) == 6


def test_orphans_are_shown_before_they_are_deleted(run: Run, demo: LakeTable) -> None:
    import os

    left = Path(demo.location().removeprefix("file://")) / "data" / "left.parquet"
    left.write_bytes(b"x")
    os.utime(left, (0, 0))
    assert [one["path"] for one in run("orphans").data[0]["orphans"]] == [str(left)]
    assert left.exists()
    assert "left.parquet" in run("orphans", "--delete", form=Format.TEXT).out
    assert not left.exists()
    assert run("orphans", "--older-than", "1s", "--delete").code == 2


def test_retain_leaves_tables_without_retention(run: Run, demo: LakeTable) -> None:
    assert [one["rows"] for one in run("retain").data] == [0]
    assert "none" in run("retain", NAME, "--dry-run", form=Format.TEXT).out
    assert demo.count() == 6


def manifest(snapshot_id: int) -> Manifest:
    return Manifest(
        model="m",
        run_key="a" * 32,
        features=(),
        inputs=(),
        training=TrainingPin(
            table="features.m", snapshot_id=77, digest="d", sources={NAME: snapshot_id, "raw.other": 5}
        ),
        code=CodePin(git_commit="unknown", dirty=False, project="p", project_sha256=""),
        environment={},
        metrics={},
        baselines={},
        created_at=datetime.now(UTC),
        profile={},
    )


def test_what_a_registered_model_names_is_known_and_what_cannot_be_read_stops(
    platform: Platform, demo: LakeTable
) -> None:
    assert modelled(platform)(NAME) == set()
    first = demo.history()[0].snapshot_id
    uri = platform.registry.artifact_uri("m", "a" * 32)
    sealed = write_artifact(uri, {}, manifest(first))
    run_id = platform.registry.log_run(
        "m", "a" * 32, params={}, metrics={}, curves={}, tags={}, artifact_uri=uri
    )
    platform.registry.register("m", run_id, uri, sealed, "a" * 32)
    platform.audit.append("x", "model.registered", "m/1", {"model": "m"})
    named = modelled(platform)
    assert (named(NAME), named("raw.other"), named("features.m")) == ({first}, {5}, {77})
    for path in Path(uri.removeprefix("file://")).iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(IntegrityError):
        named(NAME)
    Lakehouse(platform.settings).close()
