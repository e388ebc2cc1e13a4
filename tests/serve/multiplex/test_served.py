"""Many models behind one endpoint: registered versions, a broken artifact, both doors."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from rayplat.core.errors import NotFoundError
from rayplat.core.project.serving import Autoscale, Multiplex
from rayplat.core.settings import Settings
from rayplat.registry.artifact import WEIGHTS
from rayplat.serve.multiplex.choices import Choice, find_choices
from rayplat.serve.replica import FrontAlone, build_app
from rayplat.serve.spec import EndpointSpec
from tests.serve.replicas.test_standby import free_port
from tests.serve.world import DAY, HOUR, expected, make_world

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

BIASES = {1: -1.0, 2: 0.0, 3: 1.0, 4: 2.0, 5: 3.0}
AT = (DAY + 2.5 * HOUR).isoformat()
BODY = {"instances": [{"shop": "north", "amount": 0.5}], "at": AT}


def probability(version):
    return pytest.approx(expected(3.0, 2.0, 0.5, BIASES[version]), abs=1e-6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("many")
    made = make_world(home, Settings.model_validate({"home": home, "serve": {"front_port": free_port()}}))
    for version, bias in BIASES.items():
        assert made.register(str(version), bias=bias) == version
    made.crown(1)
    # A bit of the weights of version 5 has been flipped.
    weights = Path(made.registry.version("buys", 5).artifact_uri.removeprefix("file://")) / WEIGHTS
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    return made


@pytest.fixture(scope="module")
def spec(world):
    champion = world.registry.by_alias("buys", "champion")
    declared = Multiplex(models=("buys",), versions=(2, 3, 4, 5), kept=2)
    return EndpointSpec(
        settings=world.settings,
        project=world.project.address,
        definitions_sha256="",
        endpoint="buys",
        model="buys",
        version=champion.version,
        artifact_uri=champion.artifact_uri,
        manifest_sha256=champion.manifest_sha256,
        autoscale=Autoscale(),
        choices=find_choices(world.registry, "buys", declared),
        kept_choices=declared.kept,
    )


@pytest.fixture
def front(spec):
    made = FrontAlone(spec, lambda: None)
    made.start()
    yield f"http://127.0.0.1:{spec.settings.serve.front_port}"
    made.close()


@pytest.fixture
def app(spec):
    settings = spec.settings
    alone = settings.model_copy(update={"serve": settings.serve.model_copy(update={"front_port": 0})})
    made = build_app(replace(spec, settings=alone))
    yield made
    made.close()


def loaded(front):
    told = httpx.get(f"{front}/v1/endpoints/buys/models").json()["models"]
    return {name for name, one in told.items() if one["loaded"]}


def test_every_way_to_name_a_version_gives_its_own_numbers(front):
    with httpx.Client(base_url=front, timeout=30) as http:
        path = http.post("/v1/endpoints/buys/models/2/predict", json=BODY).json()
        assert (path["version"], path["predictions"][0]["probability"]) == (2, probability(2))
        header = {"rayplat-model": "3"}
        named = http.post("/v1/endpoints/buys/predict", json=BODY, headers=header).json()
        assert (named["version"], named["predictions"][0]["probability"]) == (3, probability(3))
        inputs = [
            {"name": "shop", "datatype": "BYTES", "shape": [1], "data": ["north"]},
            {"name": "amount", "datatype": "FP64", "shape": [1], "data": [0.5]},
        ]
        asked = {"inputs": inputs, "parameters": {"at": AT}}
        for version in (4, 1):  # the latter is the endpoint's own
            told = http.post(f"/v2/models/buys/versions/{version}/infer", json=asked).json()
            assert told["model_version"] == str(version)
            assert told["outputs"][0]["data"] == [probability(version)]
        own = http.post("/v1/endpoints/buys/predict", json=BODY).json()
        assert (own["version"], own["predictions"][0]["probability"]) == (1, probability(1))


def test_at_most_so_many_are_loaded_and_one_under_fifty_first_requests_once(front):
    with httpx.Client(base_url=front, timeout=30) as http, ThreadPoolExecutor(50) as many:
        url = "/v1/endpoints/buys/models/2/predict"
        answers = list(many.map(lambda _: http.post(url, json=BODY).json(), range(50)))
        assert {one["predictions"][0]["probability"] for one in answers} == {
            answers[0]["predictions"][0]["probability"]
        }
        assert loaded(front) == {"2"}
        for version, there in ((3, {"2", "3"}), (2, {"2", "3"}), (4, {"2", "4"})):
            http.post(f"/v1/endpoints/buys/models/{version}/predict", json=BODY)
            assert loaded(front) == there


def test_a_broken_artifact_is_the_affair_of_its_own_model(front):
    with httpx.Client(base_url=front, timeout=30) as http:
        for _ in range(2):
            broken = http.post("/v1/endpoints/buys/models/5/predict", json=BODY)
            assert (broken.status_code, broken.headers["retry-after"]) == (503, "5")
            assert "'5'" in broken.json()["detail"]
        assert http.post("/v1/endpoints/buys/models/2/predict", json=BODY).status_code == 200
        assert http.post("/v1/endpoints/buys/predict", json=BODY).status_code == 200
        for name in ("9", "nothing"):
            unknown = http.post(f"/v1/endpoints/buys/models/{name}/predict", json=BODY)
            assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
        away = http.post("/v1/endpoints/buys/predict", json=BODY, headers={"rayplat-model": "../../x"})
        assert away.status_code == 404
        wrong = http.post("/v1/endpoints/buys/models/2/predict", content=b"{")
        assert wrong.status_code == 400


def test_requests_go_on_while_models_come_and_go(front):
    failed, stop = [], threading.Event()

    def ask(version):
        with httpx.Client(base_url=front, timeout=30) as http:
            while not stop.is_set():
                answer = http.post(f"/v1/endpoints/buys/models/{version}/predict", json=BODY)
                told = answer.json()
                if answer.status_code != 200 or told["predictions"][0]["probability"] != probability(version):
                    failed.append((answer.status_code, told))

    with ThreadPoolExecutor(3) as many:
        going = [many.submit(ask, version) for version in (2, 3, 4)]
        threading.Event().wait(1.5)
        stop.set()
        for one in going:
            one.result(30)
    assert failed == []


def test_the_same_key_with_another_model_is_another_request(front):
    with httpx.Client(base_url=front, timeout=30) as http:
        key = {"idempotency-key": "one"}
        first = http.post("/v1/endpoints/buys/models/2/predict", json=BODY, headers=key)
        again = http.post("/v1/endpoints/buys/models/2/predict", json=BODY, headers=key)
        other = http.post("/v1/endpoints/buys/models/3/predict", json=BODY, headers=key)
        assert (first.status_code, first.content) == (200, again.content)
        assert other.status_code == 422


def test_the_door_of_serve_answers_with_them_too(app):
    async def ask():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path="/endpoints/buys")
        async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
            many = [http.post("/models/2/predict", json=BODY) for _ in range(20)]
            header = {"serve_multiplexed_model_id": "3"}
            named = [http.post("/predict", json=BODY, headers=header)]
            broken = [http.post("/models/5/predict", json=BODY), http.post("/models/9/predict", json=BODY)]
            own = [http.post("/predict", json=BODY)]
            return await asyncio.gather(*many, *named, *own, *broken)

    answers = asyncio.run(ask())
    assert [one.status_code for one in answers] == [200] * 22 + [503, 404]
    versions = [one.json()["version"] for one in answers[:22]]
    assert versions == [2] * 20 + [3, 1]
    for answer, version in zip(answers[:22], versions, strict=True):
        assert answer.json()["predictions"][0]["probability"] == probability(version)


def test_what_there_is_is_told_in_openapi_and_in_the_protocol(front):
    with httpx.Client(base_url=front, timeout=30) as http:
        paths = http.get("/v1/endpoints/buys/openapi.json").json()["paths"]
        other = paths["/v1/endpoints/buys/models/{choice}/predict"]["post"]
        assert other["parameters"][-1]["schema"]["enum"] == ["buys", "2", "3", "4", "5"]
        own = paths["/v1/endpoints/buys/predict"]["post"]
        assert "text/event-stream" not in own["responses"]["200"]["content"]
        assert http.get("/v2/models/buys").json()["versions"] == ["1", "buys", "2", "3", "4", "5"]
        assert http.get("/v2/models/buys/versions/3/ready").json()["ready"] is True
        assert http.get("/v2/models/buys/versions/9/ready").status_code == 404


def test_choices_are_found_with_the_digests_of_the_registry(world, spec):
    found = {choice.name: choice for choice in spec.choices}
    assert set(found) == {"buys", "2", "3", "4", "5"}
    assert found["buys"].version == 1
    assert found["3"].manifest_sha256 == world.registry.version("buys", 3).manifest_sha256
    assert find_choices(world.registry, "buys", None) == ()
    assert find_choices(world.registry, "buys", Multiplex(models=("untrained",))) == ()
    with pytest.raises(NotFoundError):
        find_choices(world.registry, "buys", Multiplex(versions=(77,)))


def test_a_spec_with_choices_survives_its_way_to_a_standby(spec):
    again = EndpointSpec.from_json(spec.to_json())
    assert again == spec
    assert isinstance(again.choices[0], Choice)
    assert again.fingerprint() == spec.fingerprint() != replace(spec, choices=()).fingerprint()
