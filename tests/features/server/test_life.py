"""How a server ends: SIGTERM loses no answer, a kill loses no value, and several processes share a port."""

import signal
import subprocess
import sys
import time

import pytest

from tests.features.server import world
from tests.features.server.running import ROOT, serving

VIEW = "/v1/features/last"
KEYS = {"keys": ["a"]}


@pytest.fixture
def home(tmp_path):
    world.fill(tmp_path)
    return tmp_path


def test_sigterm_answers_what_was_asked(home):
    with serving(home) as server, server.connect() as idle, server.connect() as asking:
        assert idle.ask("POST", VIEW, KEYS).status == 200
        # A thread answers these, one after the other.
        for _ in range(5):
            asking.send("POST", VIEW, {"keys": ["a"], "at": "2013-03-01T05:00:00Z"})
        first = asking.answer()
        server.process.send_signal(signal.SIGTERM)
        assert idle.closed()
        answers = [first]
        while answers[-1].headers.get("connection") != "close":
            answers.append(asking.answer())
        assert {answer.json["values"][0][0] for answer in answers} == {2.5}
        assert server.process.wait(15) == 0


def test_a_killed_server_starts_again_on_its_port_with_the_same_values(home):
    with serving(home) as server:
        port = server.port
        before = server.ask("POST", VIEW, KEYS).json["values"]
        server.process.kill()
        server.process.wait(10)
    with serving(home, port) as server:
        assert server.port == port
        assert server.ask("POST", VIEW, KEYS).json["values"] == before


def test_values_that_are_written_meanwhile_are_answered(home):
    from rayplat.features.materialize import materialize
    from rayplat.features.online.opening import open_online
    from tests.features.worlds import events, frame

    with serving(home) as server:
        lake = world.FakeLake(first_id=2000)
        lake.tell("raw.events", frame([*world.ROWS, *events(*[("a", 9, 9, 9.0)] * 5)[4:]]))
        online = open_online(world.settings(home))
        materialize(lake, online, [world.LAST])
        online.close()
        assert server.ask("POST", VIEW, KEYS).json["values"][0][0] == 9.0


def test_processes_share_a_port_and_end_together(home):
    with serving(home, workers=2) as server:
        assert {server.ask("POST", VIEW, KEYS).status for _ in range(20)} == {200}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_port_that_is_taken_is_told(home):
    with serving(home) as server:
        argv = [sys.executable, "-m", "rayplat.cli", "--home", str(home), "features", "serve"]
        where = "tests/features/server/world.py"
        done = subprocess.run(
            [*argv, where, "--port", str(server.port)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert "cannot be listened on" in done.stderr


def test_the_command_serves(home):
    argv = [sys.executable, "-m", "rayplat.cli", "--home", str(home), "--output", "json"]
    where = ["features", "serve", "tests/features/server/world.py", "--port", "0"]
    with subprocess.Popen([*argv, *where], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = ""
        while "}" not in told:
            told += process.stdout.readline()
        assert '"http://127.0.0.1:' in told
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
