"""The simulated cluster by its commands: a minimum, a killed autoscaler and raylet, and an end of all."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rayplat.cluster.head import ray_folder
from rayplat.cluster.local.components import read_components
from rayplat.cluster.local.node_records import read_nodes
from rayplat.cluster.processes import ours
from rayplat.core.settings import Settings

SPEC = """
name: few
groups:
  head: {kind: head, cpus: 2}
  cpu: {kind: cpu, cpus: 2, memory_gib: 2, min: 1, max: 2}
local: {simulate: true, cpus: 2, speedups: {idle_timeout_s: 5, autoscaler_s: 1}}
"""


def run(settings: Settings, *words: str) -> Any:
    rayplat = str(Path(sys.executable).parent / "rayplat")
    options = ["--home", str(settings.home), "--set", f"ray.spec={settings.ray.spec}"]
    argv = [rayplat, *options, "--output", "json", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nodes_when(settings: Settings, holds: Callable[[list[str]], bool]) -> list[str]:
    """The ids of the cpu group's nodes, as `status` shows them, once they are as wanted."""
    deadline = time.monotonic() + 60
    while True:
        found = json.loads(run(settings, "status"))
        ids = [node["node_id"] for node in found["nodes"] if node["group"] == "cpu"]
        if holds(ids):
            return ids
        assert time.monotonic() < deadline, found
        time.sleep(0.5)


@pytest.mark.slow
def test_what_is_killed_comes_back_and_down_ends_all(tmp_path: Path) -> None:
    (tmp_path / "platform.yaml").write_text(SPEC)
    ray = {"spec": str(tmp_path / "platform.yaml"), "object_store_mib": 128}
    settings = Settings.model_validate({"home": tmp_path / "home", "ray": ray})
    try:
        run(settings, "up")
        (first,) = nodes_when(settings, lambda ids: len(ids) == 1)
        # A killed autoscaler comes back and takes the node that it finds for its own.
        (autoscaler,) = [c for c in read_components(settings) if c.name == "autoscaler"]
        os.kill(autoscaler.process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while [c for c in read_components(settings) if c == autoscaler]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(10)
        assert nodes_when(settings, lambda ids: len(ids) == 1) == [first]
        assert run(settings, "exec", "--node", first[:12], "--", "echo", "here").strip() == "here"
        # A killed node is replaced: the group's minimum is one.
        node = read_nodes(ray_folder(settings) / "nodes")[first]
        (raylet,) = [one for one in node.processes if one.name == "raylet"]
        os.kill(raylet.pid, signal.SIGKILL)
        (second,) = nodes_when(settings, lambda ids: len(ids) == 1 and ids != [first])
        assert second != first
        assert second[:12] in run(settings, "logs") or second in run(settings, "logs")
    finally:
        run(settings, "down")
    assert ours(settings) == []
    assert not ray_folder(settings).exists()


HOLDER = """
import ray

ray.init(log_to_driver=False)
kind = ray.remote(type("Holder", (), {"where": lambda self: ray.get_runtime_context().get_node_id()}))
kind.options(name="holder", lifetime="detached", num_gpus=1, num_cpus=0, max_restarts=-1).remote()
"""


@pytest.mark.slow
def test_a_spot_node_is_told_then_taken_and_what_ran_there_runs_on_another(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    (tmp_path / "platform.yaml").write_text(f"""
name: spot
groups:
  head: {{kind: head, cpus: 2}}
  gpu: {{kind: gpu, accelerator: L4, gpus: 1, cpus: 1, memory_gib: 2, max: 1, spot: {{share: 1.0}}}}
local:
  simulate: true
  cpus: 2
  speedups: {{idle_timeout_s: 60, autoscaler_s: 1}}
  spot_trace: {{seed: {seed}, stay_s: 12, notice_s: 4}}
""")
    ray = {"spec": str(tmp_path / "platform.yaml"), "object_store_mib": 128}
    settings = Settings.model_validate({"home": tmp_path / "home", "ray": ray})
    holders: list[str] = []
    notices: set[str] = set()
    taken = 0
    try:
        run(settings, "up")
        run(settings, "exec", "--", "python", "-c", HOLDER)
        deadline = time.monotonic() + 90
        while len(holders) < 2 or not notices or not taken:
            found = json.loads(run(settings, "status"))
            (group,) = [one for one in found["groups"] if one["group"] == "gpu"]
            assert group["nodes"] <= 1, found
            taken = group["taken"]
            notices |= {n["node_id"] for n in found["nodes"] if n["leaves"]}
            assert group["leaving"] == sum(bool(n["leaves"]) for n in found["nodes"])
            for node_id, _, _, held in found["held"]:
                if held.get("GPU") and node_id not in holders:
                    holders.append(node_id)
            assert time.monotonic() < deadline, found
    finally:
        run(settings, "down")
    assert notices <= set(holders)
    assert ours(settings) == []
