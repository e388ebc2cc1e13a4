from dataclasses import replace

import httpx
import pytest

from rayplat.core.events import EventBus
from rayplat.core.project.serving import Autoscale
from rayplat.core.settings import Settings
from rayplat.serve.app import deploy, status, undeploy
from rayplat.serve.prediction_log import TABLE, PredictionLog
from rayplat.serve.replicas.actor import end_keeper, keeper_tells
from tests.serve.replicas.kept import wait_for
from tests.serve.replicas.test_keeper import Clients
from tests.serve.replicas.test_standby import free_port

from .world import DAY, HOUR, expected, make_world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

AT = (DAY + 2.5 * HOUR).isoformat()
PATIENCE_S = 60


@pytest.fixture(scope="module")
def world(ray_session, tmp_path_factory):
    serve = {"port": 0, "front_port": free_port(), "standbys": 1, "log_sync": "process"}
    settings = Settings.model_validate({"home": tmp_path_factory.mktemp("fronted"), "serve": serve})
    yield make_world(settings.home, settings)
    end_keeper(settings)


def _declared(world, **changes):
    scale = {"least": 0, "most": 2, "cpus": 0.1, "ongoing": 3, "calm_s": 0.3, "idle_s": 1.0}
    return replace(world.project.endpoints[0], autoscale=Autoscale(**{**scale, **changes}))


def test_an_endpoint_behind_its_keeper_from_its_deployment_to_zero_and_back(world):
    settings, bus = world.settings, EventBus()
    front = f"http://127.0.0.1:{settings.serve.front_port}/v1/endpoints/buys"
    question = {"instances": [{"shop": "north", "amount": 0.5}], "at": AT}

    def seen():
        return keeper_tells(settings)["buys"]

    world.crown(world.register())
    endpoint = _declared(world, idle_s=600)
    deploy(settings, world.project, endpoint, world.registry, bus)
    answer = httpx.post(f"{front}/predict", json=question, timeout=20).json()
    assert answer["version"] == 1
    assert answer["predictions"][0]["probability"] == pytest.approx(expected(3.0, 2.0, 0.5), abs=1e-6)

    # Another version takes its place while clients ask, on connections that stay open.
    clients = Clients(settings.serve.front_port, 4)
    wait_for(lambda: clients.answered > 20)
    world.crown(world.register("b", bias=2.0))
    newer = deploy(settings, world.project, _declared(world), world.registry, bus)
    assert newer.version == 2
    wait_for(lambda: httpx.post(f"{front}/predict", json=question, timeout=20).json()["version"] == 2, 20)
    wait_for(lambda: seen()["replicas"] == 2, PATIENCE_S)  # they are more than is right for one
    clients.stop()
    assert clients.failed == []

    # Nobody asks: down to none, and from none by the first request.
    wait_for(lambda: status()["buys"]["replicas"] == {}, PATIENCE_S)
    wait_for(lambda: seen()["standbys"] == 1, PATIENCE_S)
    assert seen()["target"] == 0
    answer = httpx.post(f"{front}/predict", json=question, timeout=20).json()
    assert answer["version"] == 2
    wait_for(lambda: seen()["replicas"] + seen()["bridges"] == 0, PATIENCE_S)

    PredictionLog(settings).drain(world.lake, settings, bus)
    logged = world.lake.table(TABLE).read(["prediction_id"])["prediction_id"].to_pylist()
    assert len(logged) == len(set(logged)) > clients.answered

    assert undeploy(settings, endpoint) is True
    assert "buys" not in keeper_tells(settings)
    assert httpx.post(f"{front}/predict", json=question, timeout=20).status_code == 404
