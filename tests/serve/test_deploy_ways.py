"""Ray Serve's doors beside plain HTTP: gRPC, answers in parts, and many models behind one endpoint."""

from dataclasses import replace

import grpc
import httpx
import orjson
import pytest

from rayplat.core.events import EventBus
from rayplat.core.project.load import load_project
from rayplat.core.project.serving import Multiplex
from rayplat.core.settings import Settings
from rayplat.serve.app import deploy, undeploy
from rayplat.serve.grpc import open_inference_pb2 as pb
from rayplat.serve.grpc import open_inference_pb2_grpc as made
from rayplat.serve.prediction_log import PredictionLog
from tests.serve.replicas.test_standby import free_port
from tests.serve.replicas.test_streams import STREAM

from .world import BIAS, DAY, HOUR, expected, make_world

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

AT = (DAY + 2.5 * HOUR).isoformat()
BODY = {"instances": [{"shop": "north", "amount": 0.5}], "at": AT}


def probability(bias=BIAS):
    return pytest.approx(expected(3.0, 2.0, 0.5, bias), abs=1e-6)


@pytest.fixture(scope="module")
def world(ray_session, tmp_path_factory):
    from ray import serve

    serve.shutdown()  # its gRPC door is opened when it starts, and never later
    home = tmp_path_factory.mktemp("ways")
    made = make_world(
        home, Settings.model_validate({"home": home, "serve": {"port": 0, "grpc_port": free_port()}})
    )
    made.crown(made.register())
    made.register("b", bias=2.0)
    yield made
    serve.shutdown()


@pytest.fixture(scope="module")
def info(world):
    file = world.settings.home / "shop" / "project.py"
    file.write_text(file.read_text() + STREAM)
    project = load_project(str(file.parent))
    endpoint = replace(project.endpoints[0], multiplex=Multiplex(versions=(2,), kept=1))
    yield deploy(world.settings, project, endpoint, world.registry, EventBus())
    undeploy(world.settings, endpoint)


def test_a_prediction_over_grpc(world, info):
    request = pb.ModelInferRequest(model_name="buys")
    shop = request.inputs.add(name="shop", datatype="BYTES", shape=[1])
    shop.contents.bytes_contents.append(b"north")
    amount = request.inputs.add(name="amount", datatype="FP64", shape=[1])
    amount.contents.fp64_contents.append(0.5)
    request.parameters["at"].string_param = AT
    more = {"metadata": (("application", "buys"),), "timeout": 30}
    with grpc.insecure_channel(f"127.0.0.1:{world.settings.serve.grpc_port}") as channel:
        stub = made.GRPCInferenceServiceStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest(), **more).live
        assert stub.ServerReady(pb.ServerReadyRequest(), **more).ready
        assert stub.ServerMetadata(pb.ServerMetadataRequest(), **more).name == "rayplat"
        assert stub.ModelReady(pb.ModelReadyRequest(name="buys", version="2"), **more).ready
        answer = stub.ModelInfer(request, **more)
        told = {one.name: one.contents for one in answer.outputs}
        (found,) = told["probability"].fp64_contents
        assert found == probability()
        kept = PredictionLog(world.settings).find(told["prediction_id"].bytes_contents[0].decode())
        assert (kept.probability, kept.endpoint) == (found, "buys")
        request.model_version = "2"
        other = stub.ModelInfer(request, **more)
        assert (other.model_version, list(other.outputs[0].contents.fp64_contents)) == (
            "2",
            [probability(2.0)],
        )
        request.inputs[0].shape[0] = 3
        with pytest.raises(grpc.RpcError) as wrong:
            stub.ModelInfer(request, **more)
        assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "problem-bin" in dict(wrong.value.trailing_metadata())


def test_an_answer_in_parts_and_another_version(info):
    headers = {"accept": "application/jsonl"}
    answer = httpx.post(info.url, json=BODY, headers=headers, timeout=30)
    told = [orjson.loads(line) for line in answer.text.splitlines()]
    assert [one["event"] for one in told] == ["prediction", "part", "part", "done"]
    assert told[0]["data"]["predictions"][0]["probability"] == probability()
    for asked in (
        {"url": info.url, "headers": {"serve_multiplexed_model_id": "2"}},
        {"url": f"{info.about_url}/models/2/predict"},
    ):
        other = httpx.post(**asked, json=BODY, timeout=30).json()
        assert (other["version"], other["predictions"][0]["probability"]) == (2, probability(2.0))
    answer = httpx.post(f"{info.about_url}/models/2/predict", json=BODY, headers=headers, timeout=30)
    told = [orjson.loads(line)["data"] for line in answer.text.splitlines()]
    assert (told[0]["version"], told[2]) == (2, pytest.approx(2.0))  # of its own network
    assert httpx.post(f"{info.about_url}/models/7/predict", json=BODY, timeout=30).status_code == 404
