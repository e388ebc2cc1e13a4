"""How soon a node is there when something waits for it, and how soon it is gone when it idles.

Run: .venv/bin/python benchmarks/nodes.py [--json] [--quick]

The peer is Ray's own fake cluster: the same Ray, autoscaler and node type under its own node provider,
without supervisor, recorder and fault-tolerant control store. Both run beside each other and are asked
in turns. The limit of `idle_to_gone_s` is the idle timeout itself.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Claim, main

from rayplat.cluster.head import Simulation, free_port, ray_folder, start_head
from rayplat.cluster.local.autoscaler import autoscaling_config, head_environment, write_config
from rayplat.cluster.observe import Look, Observer
from rayplat.cluster.processes import exclusive
from rayplat.cluster.session import connect, disconnect, down, up
from rayplat.cluster.spec import parse_spec
from rayplat.cluster.token import ensure_token, use_token
from rayplat.core.settings import Settings

IDLE_S = 5.0
RUNS, QUICK_RUNS = 3, 1
SPEC = f"""
name: bench
groups:
  head: {{kind: head, cpus: 2}}
  gpu: {{kind: gpu, accelerator: L4, gpus: 1, cpus: 1, memory_gib: 2, max: 1}}
local: {{simulate: true, cpus: 2, speedups: {{idle_timeout_s: {IDLE_S}, autoscaler_s: 1}}}}
"""
FAKE_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
FAKE_HEAD = "f" * 51 + "00000"
_POLL_S = 0.05
_PATIENCE_S = 60.0


def settings_in(folder: Path) -> Settings:
    folder.mkdir(parents=True)
    (folder / "platform.yaml").write_text(SPEC)
    ray = {"spec": str(folder / "platform.yaml"), "object_store_mib": 128}
    return Settings.model_validate({"home": folder / "home", "ray": ray})


def start_peer(settings: Settings) -> None:
    """Ray's own fake cluster, with the same node type; the control store in memory, as it is by default."""
    spec, port, folder = parse_spec(SPEC), free_port(), ray_folder(settings)
    config = autoscaling_config(
        spec,
        gcs_address=f"127.0.0.1:{port}",
        head_id=FAKE_HEAD,
        head_cpus=2,
        head_gpus=0,
        folder=folder / "nodes",
    )
    config["provider"]["module"] = FAKE_PROVIDER
    del config["available_node_types"]["gpu"]["resources"]["memory"]  # which that provider does not take
    head_type = "ray.head.default"  # as that provider names it
    config["available_node_types"][head_type] = config["available_node_types"].pop("head")
    config["head_node_type"] = head_type
    with exclusive(settings):
        ensure_token(settings)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_config(config, folder / "autoscaler.yaml")
        plain = {"RAY_FAKE_CLUSTER": "1", "RAY_gcs_storage": "memory", "RAY_NODE_TYPE_NAME": head_type}
        variables = {**head_environment(spec, FAKE_HEAD), **plain}
        arguments = (f"--autoscaling-config={folder / 'autoscaler.yaml'}",)
        start_head(settings, spec, port, Simulation(arguments, variables))


@contextmanager
def observed(settings: Settings) -> Iterator[Observer]:
    from rayplat.cluster.session import running_head

    use_token(settings)
    observer = Observer(running_head(settings).address)
    try:
        yield observer
    finally:
        observer.close()


def wait_for(observer: Observer, holds: Callable[[Look], bool]) -> float:
    """The moment at which a look fulfils `holds`, s."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds(observer.look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {_PATIENCE_S:.0f} s: {observer.look()}")
        time.sleep(_POLL_S)
    return time.monotonic()


def has_gpu(look: Look) -> bool:
    return any(node.resources.get("GPU") for node in look.alive)


def _noop() -> None:
    return None


def round_trip(settings: Settings) -> tuple[float, float]:
    """From a demand to its node, and from the node's last task to its end, s."""
    import ray

    with observed(settings) as observer:
        wait_for(observer, lambda look: not has_gpu(look))
        connect(settings)
        remote: Any = ray.remote(num_gpus=1, num_cpus=0)(_noop)
        begin = time.monotonic()
        asked = remote.remote()
        ready = wait_for(observer, has_gpu)
        ray.get(asked)
        idle = time.monotonic()
        gone = wait_for(observer, lambda look: not has_gpu(look))
        disconnect()
    return ready - begin, gone - idle


def measure(quick: bool) -> Sequence[Claim]:
    with tempfile.TemporaryDirectory(prefix="rayplat-nodes-") as folder:
        ours, theirs = settings_in(Path(folder) / "ours"), settings_in(Path(folder) / "theirs")
        samples: dict[str, list[tuple[float, float]]] = {"rayplat": [], "ray_fake": []}
        try:
            up(ours)
            start_peer(theirs)
            for turn in range(QUICK_RUNS if quick else RUNS):
                order = [("rayplat", ours), ("ray_fake", theirs)]
                for name, settings in order if turn % 2 == 0 else reversed(order):
                    samples[name].append(round_trip(settings))
        finally:
            disconnect()
            down(ours)
            down(theirs)
    first, second = ({name: [pair[at] for pair in pairs] for name, pairs in samples.items()} for at in (0, 1))
    return [
        Claim("demand_to_node_s", "s", first.pop("rayplat"), first),
        Claim("idle_to_gone_s", "s", second.pop("rayplat"), second, limit=IDLE_S),
    ]


if __name__ == "__main__":
    # Ray's client ends the process when a cluster that it was connected to ends.
    main(measure, "From demand to node, and from idle to gone.")
    sys.stdout.flush()
    os._exit(0)
