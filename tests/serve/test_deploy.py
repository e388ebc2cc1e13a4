import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.events import EndpointDeployed, EventBus
from rayplat.core.project.load import load_project
from rayplat.core.settings import Settings
from rayplat.serve.app import deploy, endpoint_url, undeploy
from rayplat.serve.client import predict
from rayplat.serve.prediction_log import TABLE, PredictionLog
from rayplat.serve.proxy import proxy_address

from .world import DAY, HOUR, expected, make_world

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

AT = DAY + 2.5 * HOUR


@pytest.fixture(scope="module")
def world(ray_session, tmp_path_factory):
    settings = Settings.model_validate({"home": tmp_path_factory.mktemp("shop"), "serve": {"port": 0}})
    return make_world(settings.home, settings)


def test_an_endpoint_from_its_first_deployment_to_its_last_request(world):
    told, bus = [], EventBus()
    bus.subscribe(EndpointDeployed, told.append)
    endpoint = world.project.endpoints[0]
    with pytest.raises(NotFoundError, match="no champion"):
        deploy(world.settings, world.project, endpoint, world.registry, bus)

    world.crown(world.register())
    info = deploy(world.settings, world.project, endpoint, world.registry, bus)
    assert info.version == 1
    assert info.url == endpoint_url(world.settings, "buys")
    assert info.url.startswith("http://127.0.0.1:")
    assert [(e.endpoint, e.model, e.version) for e in told] == [("buys", "buys", 1)]
    assert httpx.get(info.about_url).json()["inputs"] == ["price__last", "trend__mean_3h", "visit__amount"]
    assert httpx.get(f"{info.about_url}/health").json() == {"status": "ok"}

    answered = _good_bad_and_many(info.url)

    again = deploy(world.settings, world.project, endpoint, world.registry, bus)
    assert again == info
    assert len(told) == 1

    world.crown(world.register("b", bias=2.0))
    newer = deploy(world.settings, world.project, endpoint, world.registry, bus)
    assert (newer.version, newer.url) == (2, info.url)
    answer = predict(newer.url, [{"shop": "north", "amount": 0.5}], AT)
    assert answer["version"] == 2
    assert answer["predictions"][0]["probability"] == pytest.approx(expected(3.0, 2.0, 0.5, 2.0), abs=1e-6)
    answered.append(answer["predictions"][0]["id"])

    PredictionLog(world.settings).drain(world.lake, world.settings, bus)
    logged = world.lake.table(TABLE).read(["prediction_id"])["prediction_id"].to_pylist()
    assert sorted(logged) == sorted(answered)

    assert undeploy(world.settings, endpoint) is True
    assert undeploy(world.settings, endpoint) is False
    with pytest.raises(NotFoundError):
        predict(info.url, [{"shop": "north", "amount": 0.5}], AT)


def _good_bad_and_many(url):
    with pytest.raises(UserError, match=r"instances\[0\].amount: missing"):
        predict(url, [{"shop": "north"}], AT)
    refused = httpx.post(url, content=b"{")
    assert refused.status_code == 400
    assert list(refused.json()) == ["type", "title", "status", "detail", "faults"]

    def one(number):
        return predict(url, [{"shop": "north", "amount": number / 10}], AT)["predictions"][0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(64)))
    assert [f["probability"] for f in found] == [
        pytest.approx(expected(3.0, 2.0, i / 10), abs=1e-6) for i in range(64)
    ]
    return [f["id"] for f in found]


def test_a_replica_that_cannot_start_is_told_with_its_reason(world, tmp_path):
    shutil.copytree(world.settings.home / "shop", tmp_path / "shop")
    file = tmp_path / "shop" / "project.py"
    only_here = f"import os\nif os.getpid() != {os.getpid()}:\n    raise ValueError('no licence here')\n"
    file.write_text(only_here + file.read_text())
    project = load_project(str(tmp_path / "shop"))
    world.crown(world.register())
    with pytest.raises(UnavailableError, match="no licence here"):
        deploy(world.settings, project, project.endpoints[0], world.registry, EventBus())
    undeploy(world.settings, "buys")
    assert proxy_address() is not None
