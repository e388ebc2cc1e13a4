import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rayplat.cli.doctor import machine, places
from rayplat.cli.doctor.command import examine, healthy
from rayplat.cli.doctor.finding import Finding, Outcome
from rayplat.cluster.processes import MARKER, ProcessRecord, platform_id, write_record
from rayplat.cluster.token import ensure_token
from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from tests.cli.conftest import Ran

GIB = 2**30


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.model_validate({"home": tmp_path / "home", "serve": {"port": 0}})
    found.run_dir.mkdir(parents=True)
    return found


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """File modes mean nothing to root: act as nobody for the time of the test."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def _mended(finding: Finding, outcome: Outcome) -> str:
    assert finding.outcome is outcome, finding
    assert finding.mend
    return finding.seen


@pytest.mark.parametrize(
    ("finding", "outcome"),
    [
        (machine.check_python((3, 11, 0)), Outcome.OK),
        (machine.check_python((3, 10, 9)), Outcome.FAIL),
        (machine.check_cores(2), Outcome.OK),
        (machine.check_cores(1), Outcome.WARN),
        (machine.check_memory(8 * GIB), Outcome.OK),
        (machine.check_memory(4 * GIB), Outcome.WARN),
        (machine.check_memory(1 * GIB), Outcome.FAIL),
        (machine.check_disk(8 * GIB, Path("/x")), Outcome.OK),
        (machine.check_disk(2 * GIB, Path("/x")), Outcome.WARN),
        (machine.check_disk(GIB // 2, Path("/x")), Outcome.FAIL),
    ],
)
def test_bounds_of_the_machine(finding: Finding, outcome: Outcome) -> None:
    assert finding.outcome is outcome
    assert bool(finding.mend) is (outcome is not Outcome.OK)


def test_packages_in_their_ranges() -> None:
    assert machine.check_packages().outcome is Outcome.OK
    seen = _mended(machine.judge_packages(["polars<1", "no-such-package-here", "pytest>=1"]), Outcome.FAIL)
    assert "polars is " in seen
    assert "not <1" in seen
    assert "no-such-package-here is missing" in seen
    absent = ["no-such-package-here; extra == 'x'", "no-such; python_version < '3'"]
    assert machine.judge_packages(absent).outcome is Outcome.OK
    _mended(machine.check_packages("no-such-package-here"), Outcome.FAIL)


def test_loopback() -> None:
    assert machine.check_loopback().outcome is Outcome.OK
    _mended(machine.check_loopback("no-such-host.invalid"), Outcome.FAIL)


def test_a_warehouse_that_can_be_written_is_left_as_it_was(settings: Settings) -> None:
    assert places.check_warehouse(settings).outcome is Outcome.OK
    assert not (settings.home / "warehouse").exists()


@pytest.mark.usefixtures("unprivileged")
def test_a_warehouse_that_cannot_be_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    locked = Settings.model_validate({"home": "/proc/nowhere", "warehouse": "file:///etc/warehouse"})
    assert "Permission denied" in _mended(places.check_warehouse(locked), Outcome.FAIL)


def test_a_warehouse_that_is_a_file(settings: Settings) -> None:
    (settings.home / "warehouse").write_text("")
    _mended(places.check_warehouse(settings), Outcome.FAIL)


def test_a_remote_warehouse_is_named(settings: Settings) -> None:
    remote = settings.model_copy(update={"warehouse": "s3://bucket/x"})
    assert "not probed" in places.check_warehouse(remote).seen


def test_the_database(settings: Settings) -> None:
    file = settings.home / "rayplat.db"
    assert "does not exist yet" in places.check_database(settings).seen
    assert not file.exists()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (x)")
    assert "journal mode delete" in _mended(places.check_database(settings), Outcome.WARN)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    assert "journal mode wal" in places.check_database(settings).seen
    file.write_bytes(b"this is not a database" * 100)
    assert "not a database" in _mended(places.check_database(settings), Outcome.FAIL)


def test_a_database_that_does_not_answer_and_its_password() -> None:
    away = Settings.model_validate(
        {"database": "postgresql+psycopg://u:hunter2@127.0.0.1:9/x?connect_timeout=2"}
    )
    finding = places.check_database(away)
    assert finding.outcome is Outcome.FAIL
    assert "hunter2" not in finding.seen + finding.mend


def test_the_token(settings: Settings) -> None:
    assert places.check_token(settings).outcome is Outcome.OK
    path = ensure_token(settings)
    assert places.check_token(settings).outcome is Outcome.OK
    path.chmod(0o644)
    assert "mode 0644, not 0600" in _mended(places.check_token(settings), Outcome.FAIL)
    path.chmod(0o600)
    path.write_text("")
    assert "is empty" in _mended(places.check_token(settings), Outcome.FAIL)


def test_ports() -> None:
    assert places.check_port("serve.port", "127.0.0.1", 0, ()).outcome is Outcome.OK
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        seen = _mended(places.check_port("serve.port", "127.0.0.1", port, ()), Outcome.FAIL)
        assert f"(process {os.getpid()})" in seen
        assert "held by this platform" in places.check_port("p", "127.0.0.1", port, {os.getpid()}).seen
    assert "is free" in places.check_port("p", "127.0.0.1", port, ()).seen


def test_kafka(settings: Settings) -> None:
    assert places.check_kafka(settings).outcome is Outcome.OK
    record = settings.run_dir / "kafka.json"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        record.write_text(json.dumps({"bootstrap": address}))
        assert places.check_kafka(settings).outcome is Outcome.OK
    assert "does not answer" in _mended(places.check_kafka(settings), Outcome.FAIL)
    record.write_text("{")
    assert "cannot be read" in _mended(places.check_kafka(settings), Outcome.FAIL)
    set_by_hand = settings.model_copy(
        update={"kafka": settings.kafka.model_copy(update={"bootstrap": "127.0.0.1:nine"})}
    )
    _mended(places.check_kafka(set_by_hand), Outcome.FAIL)


def test_leftovers_of_dead_processes(settings: Settings) -> None:
    assert places.check_leftovers(settings).outcome is Outcome.OK
    child = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(child.pid).create_time()
    child.wait()
    write_record(settings, ProcessRecord("kafka", child.pid, started))
    assert "kafka (dead)" in _mended(places.check_leftovers(settings), Outcome.WARN)
    (settings.run_dir / "kafka.pid.json").write_text("{")
    _mended(places.check_leftovers(settings), Outcome.FAIL)


def test_own_processes_are_those_with_the_mark(settings: Settings) -> None:
    environment = {**os.environ, MARKER: platform_id(settings)}
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert places.own_processes(settings) == {child.pid}
        child.communicate()


def test_settings_that_do_not_load_are_a_finding() -> None:
    def load() -> Settings:
        raise UserError("there is no setting 'x'", "remove it")

    found = examine(load)
    assert not healthy(found)
    assert found[-1].check == "settings"


def test_the_command_tells_each_fault_and_ends_with_1(rayplat: Callable[..., Ran], tmp_path: Path) -> None:
    run = tmp_path / "home" / "run"
    run.mkdir(parents=True)
    (run / "auth_token").write_text("x")
    (run / "auth_token").chmod(0o640)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = ["doctor", "--home", str(tmp_path / "home"), "--set", f"serve.port={port}"]
        ran = rayplat(*arguments, "-o", "json")
        text = rayplat(*arguments)
    assert ran.code == text.code == 1
    failed = {f["check"]: f for f in ran.data["findings"] if f["outcome"] == "fail"}
    assert {"token", "port serve.port"} <= set(failed)
    assert all(f["mend"] for f in failed.values())
    assert "mend: " in text.out
    healthy_one = rayplat("doctor", "--home", str(tmp_path / "other"), "--set", "serve.port=0", "-o", "json")
    assert healthy_one.data["healthy"] is (healthy_one.code == 0)
