"""The commands of a bought head, run on this machine: what they write down, and that it comes back."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from rayplat.cluster.render.targets import TARGETS
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.settings_environment import process_environment
from tests.cluster.render.specs import spec_of
from tests.features.online.redis_server import start

_ROOT = Path(__file__).parents[3]
_SUDO = """#!/bin/bash
case "$1" in
  tee) exec tee "$HOME/units/$(basename "$2")" ;;
  *) echo "$@" >> "$HOME/asked" ;;
esac
"""
_ASK = """
import sys, ray
from ray.experimental import internal_kv as kv
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=40)
if len(sys.argv) > 2:
    kv._internal_kv_put(b"kept", sys.argv[2].encode())
print((kv._internal_kv_get(b"kept") or b"").decode())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home as a bought machine has it: a venv, a token, a `sudo`; its path is short enough for Ray."""
    folder = Path(tempfile.mkdtemp(prefix="rp"))
    for name in ("bin", "units", ".ray", ".rayplat"):
        (folder / name).mkdir()
    (folder / "bin" / "sudo").write_text(_SUDO)
    (folder / "bin" / "sudo").chmod(0o700)
    (folder / ".ray" / "auth_token").write_text("a-token-of-this-test-alone-0123456789")
    (folder / ".ray" / "auth_token").chmod(0o600)
    (folder / ".rayplat" / "venv").symlink_to(_ROOT / ".venv")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in process_environment().items() if not k.startswith(("RAY", "PYTEST"))}
    return {**kept, "HOME": str(home), "PATH": f"{home / 'bin'}:{kept['PATH']}"}


def _commands(spec: ClusterSpec, target: str = "aws") -> list[str]:
    document: dict[str, Any] = yaml.safe_load(TARGETS[target].make(spec))
    return list(document["head_start_ray_commands"])


def _write_down(home: Path, commands: list[str], **told: str) -> None:
    """Run what writes the services down, as the launcher does; `ray stop` and the wait are left out."""
    for command in commands[1:-1]:
        said = "".join(f"export {name}={value};" for name, value in told.items())
        subprocess.run(["bash", "-c", said + command], env=_environment(home), check=True, timeout=20)


@pytest.mark.parametrize("target", ["aws", "gcp"])
def test_a_head_is_services_that_come_back(home: Path, target: str) -> None:
    commands = _commands(spec_of({}), target)
    _write_down(home, commands, RAY_OVERRIDE_RESOURCES="'{\"CPU\":4}'")
    units = {unit.stem: unit.read_text() for unit in (home / "units").iterdir()}
    assert set(units) == {"rayplat-head", "rayplat-recorder", "rayplat-costs"}
    for name, text in units.items():
        assert f"ExecStart=/bin/bash {home}/.rayplat/{name}.sh" in text
        assert "Restart=always" in text
    assert "cost watch" in (home / ".rayplat" / "rayplat-costs.sh").read_text()
    variables = home / ".rayplat" / "head.env.sh"
    assert variables.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["bash", "-c", f". {variables}; env"],
        env=_environment(home),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert f"RAY_gcs_storage_path={home}/.rayplat/gcs" in shown
    assert 'RAY_OVERRIDE_RESOURCES={"CPU":4}' in shown
    assert "enable --now rayplat-head rayplat-recorder rayplat-costs" in (home / "asked").read_text()


@pytest.mark.parametrize("secrets", [None, "secrets.env"])
def test_nothing_that_the_launcher_or_a_file_says_turns_the_token_off(
    home: Path, secrets: str | None
) -> None:
    spec = spec_of({}, platform={"secrets_file": secrets} if secrets else {})
    (home / ".rayplat" / "secrets.env").write_text("RAY_AUTH_MODE=disabled\nRAYPLAT_ONLINE=redis://x\n")
    _write_down(
        home,
        _commands(spec),
        RAY_AUTH_MODE="disabled",
        RAY_AUTH_TOKEN_PATH="/elsewhere",
        RAY_gcs_storage="memory",
    )
    shown = subprocess.run(
        ["bash", "-c", f". {home}/.rayplat/head.env.sh; env"],
        env=_environment(home),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for line in (
        "RAY_AUTH_MODE=token",
        f"RAY_AUTH_TOKEN_PATH={home}/.ray/auth_token",
        "RAY_gcs_storage=rocksdb",
    ):
        assert line in shown, line
    assert ("RAYPLAT_ONLINE=redis://x" in shown) == bool(secrets)


def test_redis_keeps_the_heads_tables_where_the_file_says_so() -> None:
    spec = spec_of({}, platform={"head_store": "redis", "redis": "rediss://r.example.com:6380/0"})
    said = " ".join(_commands(spec))
    assert 'RAY_REDIS_ADDRESS="rediss://r.example.com:6380"' in said
    assert "rocksdb" not in said


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Loop:
    """What `Restart=always` does, for one service, in a session of its own."""

    def __init__(self, home: Path, script: Path) -> None:
        text = f"while true; do bash {script}; sleep 1; done >> {home}/log 2>&1"
        self.process = subprocess.Popen(["bash", "-c", text], env=_environment(home), start_new_session=True)

    def store(self) -> psutil.Process | None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.name() == "gcs_server":
                return child
        return None

    def end(self) -> None:
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for child in children:
            try:
                child.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(children, timeout=10)
        self.process.wait(10)


def _ask(home: Path, address: str, *value: str) -> str:
    """What the cluster keeps, once it answers."""
    deadline = time.monotonic() + 90
    environment = {**_environment(home), "RAY_AUTH_MODE": "token"}
    while True:
        done = subprocess.run(
            [str(_ROOT / ".venv/bin/python"), "-c", _ASK, address, *value],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode == 0:
            return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
        assert time.monotonic() < deadline, (home / "log").read_text()[-2000:] + done.stderr[-2000:]
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["rocksdb", "redis"])
def test_a_head_whose_store_is_killed_comes_back_with_what_it_knew(home: Path, store: str) -> None:
    server, url = start(home) if store == "redis" else (None, None)
    spec = spec_of({}, platform={"head_store": store, "redis": url})
    port = _free()
    changes = {
        "--port=6379": f"--port={port}",
        "8076": str(_free()),
        "8265": str(_free()),
        '--autoscaling-config="$HOME/.rayplat/autoscaler.yaml"': (
            f"--temp-dir=$HOME/r --num-cpus=1 --dashboard-agent-listen-port={_free()} "
            f"--ray-client-server-port={_free()}"
        ),
    }
    commands = _commands(spec)
    for old, new in changes.items():
        commands = [command.replace(old, new) for command in commands]
    (home / "ray_bootstrap_config.yaml").write_text(TARGETS["aws"].make(spec))
    _write_down(home, commands)
    loop = _Loop(home, home / ".rayplat" / "rayplat-head.sh")
    try:
        address = f"127.0.0.1:{port}"
        assert _ask(home, address, store) == store
        killed = loop.store()
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(10)
        assert _ask(home, address) == store
        assert loop.store() not in (None, killed)
    finally:
        loop.end()
        if server is not None:
            server.kill()
            server.wait(10)
