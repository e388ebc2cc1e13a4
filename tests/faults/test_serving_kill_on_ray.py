"""`kill -9` of replica, controller, proxy, and the keeper that holds the port, under real Ray Serve.

20 requests a second, each asked for twice at most: see `test_serving_kill`.
"""

import os
import random
import signal
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from rayplat.core.events import EventBus
from rayplat.core.project.serving import Autoscale
from rayplat.core.settings import Settings
from rayplat.serve.app import deploy, undeploy
from rayplat.serve.replicas.actor import end_keeper, keeper_tells
from tests.faults.test_serving_kill import A_SECOND, Load, check, pouring, told_again
from tests.serve.replicas.kept import wait_for
from tests.serve.world import make_world

# A port that nobody holds is held again when Ray has started the keeper's process: imports take seconds here.
_PAUSE_S = 8.0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_on_ray_replica_proxy_controller_and_keeper_are_killed(ray_session: Settings, tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    serve = {"port": 0, "front_port": port, "standbys": 1}
    settings = Settings.model_validate({"home": tmp_path / "fronted", "serve": serve})
    world = make_world(settings.home, settings)
    world.crown(world.register())
    scale = Autoscale(2, 2, cpus=0.1)
    endpoint = replace(world.project.endpoints[0], autoscale=scale)
    deploy(settings, world.project, endpoint, world.registry, EventBus())
    url, load = f"http://127.0.0.1:{port}/v1/endpoints/buys/predict", Load({})
    victims = ["ServeReplica", "ServeController", "ProxyActor", "KeeperActor", "ServeReplica"]
    try:
        wait_for(lambda: keeper_tells(settings)["buys"]["replicas"] == 2, 60)
        with pouring(url, load, _PAUSE_S) as lock:
            for victim in victims:
                time.sleep(chance.uniform(1.0, 3.0))
                killed = kill_actor(victim, chance)
                before = len(load.answered)
                wait_for(lambda before=before: len(load.answered) > before + 2 * A_SECOND, 60)  # type: ignore[misc]
                wait_for(lambda: keeper_tells(settings)["buys"]["replicas"] == 2, 60)
                print(f"{victim} {killed} was killed: {load.again} sent again, {load.failed} failed so far")
        told_again(url, load, chance, lock)
    finally:
        undeploy(settings, endpoint)
        end_keeper(settings)
        world.lake.close()
    check(settings, load)


def kill_actor(kind: str, chance: random.Random) -> int:
    """Kill the process of a living actor of a class, whichever; its id."""
    from ray.util.state import list_actors

    living = [one for one in list_actors(limit=1000) if one.state == "ALIVE" and kind in one.class_name]
    pids = [int(one.pid) for one in living if one.pid]
    assert pids, f"there is no {kind}"
    pid = chance.choice(pids)
    os.kill(pid, signal.SIGKILL)
    return pid
