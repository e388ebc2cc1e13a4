"""The service over real channels, in front of the same application as HTTP."""

import asyncio
import struct
import threading
from base64 import b64encode
from concurrent.futures import Future

import grpc
import httpx
import numpy as np
import orjson
import pytest

from rayplat.core.settings import Settings
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.admission.decision import Admitted, Refused
from rayplat.serve.grpc import open_inference_pb2 as pb
from rayplat.serve.grpc import open_inference_pb2_grpc as made
from rayplat.serve.grpc.service import Inference
from rayplat.serve.grpc.tensors import content_of
from rayplat.serve.http import EndpointApp
from rayplat.serve.keyed import KeyedRequests
from rayplat.serve.log.idempotency import IdempotencyKeys
from rayplat.serve.request import RequestError
from tests.serve.front.served import FORM, MemoryLog, served


class TokenOnly(OpenDoor):
    def check(self, header, endpoint, rows, now):
        if header != b"Bearer good":
            return Refused(401, "a valid token is needed")
        return Admitted("app")


class Servicer(made.GRPCInferenceServiceServicer):
    """What Ray Serve does: it calls the replica's method with the message and a context."""

    def __init__(self, inference):
        self._inference = inference

    async def ModelReady(self, request, context):
        return self._inference.ready(request)

    async def ModelMetadata(self, request, context):
        return self._inference.model(request, context)

    async def ModelInfer(self, request, context):
        return await self._inference.infer(request, context)


@pytest.fixture(scope="module")
def log():
    return MemoryLog()


@pytest.fixture(scope="module")
def app(log, tmp_path_factory):
    keyed = KeyedRequests(IdempotencyKeys(Settings(home=tmp_path_factory.mktemp("keys"))))
    of = served()
    app = EndpointApp(of.predictor, of.form, log, {}, TokenOnly(), keyed=keyed)
    yield app
    log.close = lambda: None
    app.close()


@pytest.fixture(scope="module")
def stub(app):
    ready: Future[int] = Future()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve():
        server = grpc.aio.server()
        made.add_GRPCInferenceServiceServicer_to_server(Servicer(Inference(app.served, app.predict)), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.set_result(port)
        await end.wait()
        await server.stop(0)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    with grpc.insecure_channel(f"127.0.0.1:{ready.result(20)}") as channel:
        yield made.GRPCInferenceServiceStub(channel)
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


TOKEN = (("authorization", "Bearer good"),)


def asked(amounts=(0.5, 1.0), **more):
    request = pb.ModelInferRequest(model_name="buys", **more)
    shop, amount = request.inputs.add(), request.inputs.add()
    shop.name, shop.datatype = "shop", "BYTES"
    shop.shape.append(len(amounts))
    shop.contents.bytes_contents.extend([b"north"] * len(amounts))
    amount.name, amount.datatype = "amount", "FP64"
    amount.shape.extend((len(amounts), 1))
    amount.contents.fp64_contents.extend(amounts)
    return request


def outputs(answer):
    return {one.name: one for one in answer.outputs}


def over_http(app, body):
    async def once():
        transport = httpx.ASGITransport(app, root_path="/endpoints/buys")
        async with httpx.AsyncClient(transport=transport, base_url="http://x/endpoints/buys") as http:
            return await http.post("/predict", json=body, headers=dict(TOKEN))

    return asyncio.run(once()).json()["predictions"]


def test_the_numbers_are_those_of_http_and_the_log_has_the_record(stub, app, log):
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = (*TOKEN, ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))
    answer = stub.ModelInfer(asked((0.5, -3.7), id="mine"), metadata=metadata)
    assert (answer.model_name, answer.model_version, answer.id) == ("buys", "3", "mine")
    told = outputs(answer)
    rows = [{"shop": "north", "amount": amount} for amount in (0.5, -3.7)]
    want = [one["probability"] for one in over_http(app, {"instances": rows})]
    assert list(told["probability"].contents.fp64_contents) == want
    assert list(told["positive"].contents.bool_contents) == [True, False]
    assert told["probability"].shape == [2]
    for identity, probability in zip(told["prediction_id"].contents.bytes_contents, want, strict=True):
        record = next(r for r in log.records if r.prediction_id == identity.decode())
        assert (record.probability, record.caller, record.trace_id) == (probability, "app", trace)


def test_raw_contents_are_the_same_and_nan_is_missing(stub, log):
    request = asked((0.5, 1.0, 2.0))
    for tensor in request.inputs:
        tensor.ClearField("contents")
    amounts = np.array([0.5, np.nan, 2.0], "<f4")
    request.inputs[1].datatype = "FP32"
    request.raw_input_contents.append(b"".join(struct.pack("<I", 5) + b"north" for _ in range(3)))
    request.raw_input_contents.append(amounts.tobytes())
    answer = outputs(stub.ModelInfer(request, metadata=TOKEN))
    found = list(answer["probability"].contents.fp64_contents)
    assert found == pytest.approx([1 / (1 + np.exp(-x)) for x in (0.5, 0.0, 2.0)], abs=1e-6)
    assert [orjson.loads(r.request)["amount"] for r in log.records[-3:]] == [0.5, None, 2.0]


def test_who_has_no_token_is_refused_before_anything_else(stub):
    for request in (asked(), pb.ModelInferRequest(model_name="buys")):
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request, metadata=(("authorization", "Bearer bad"),))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert "token" in refused.value.details()


def _wrong(change):
    request = asked()
    change(request)
    return request


WRONG = {
    "none": lambda r: r.ClearField("inputs"),
    "twice": lambda r: r.inputs.append(r.inputs[0]),
    "unknown column": lambda r: setattr(r.inputs[0], "name", "nothing"),
    "shape": lambda r: r.inputs[0].shape.append(7),
    "negative shape": lambda r: r.inputs[0].shape.__setitem__(0, -2),
    "huge shape": lambda r: r.inputs[0].shape.__setitem__(0, 1 << 60),
    "lengths": lambda r: r.inputs[0].contents.bytes_contents.append(b"x"),
    "datatype": lambda r: setattr(r.inputs[0], "datatype", "COMPLEX"),
    "wrong kind": lambda r: setattr(r.inputs[0], "datatype", "FP64"),
    "no text": lambda r: r.inputs[0].contents.bytes_contents.__setitem__(0, b"\xff\xfe"),
    "raw": lambda r: r.raw_input_contents.append(b"x"),
    "short raw": lambda r: r.raw_input_contents.extend([b"\x09\x00\x00\x00a", b"abc"]),
    "time": lambda r: setattr(r.parameters["at"], "string_param", "yesterday"),
    "infinite": lambda r: r.inputs[1].contents.fp64_contents.__setitem__(0, float("inf")),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tensors_are_the_callers_fault(stub, name):
    with pytest.raises(grpc.RpcError) as wrong:
        stub.ModelInfer(_wrong(WRONG[name]), metadata=TOKEN)
    assert wrong.value.code() == grpc.StatusCode.INVALID_ARGUMENT, wrong.value.details()
    problem = orjson.loads(dict(wrong.value.trailing_metadata())["problem-bin"])
    assert (problem["status"], bool(problem["faults"])) == (422, True)


def test_another_model_or_version_is_not_found(stub):
    for request in (asked(model_version="9"), _wrong(lambda r: setattr(r, "model_name", "../x"))):
        with pytest.raises(grpc.RpcError) as unknown:
            stub.ModelInfer(request, metadata=TOKEN)
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert stub.ModelReady(pb.ModelReadyRequest(name="buys")).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="buys", version="3")).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="other")).ready
    with pytest.raises(grpc.RpcError) as unknown:
        stub.ModelMetadata(pb.ModelMetadataRequest(name="other"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_model_tells_its_tensors(stub):
    told = stub.ModelMetadata(pb.ModelMetadataRequest(name="buys"))
    named = {one.name: (one.datatype, list(one.shape)) for one in told.inputs}
    assert (named["shop"], named["amount"], named["visits"]) == (
        ("BYTES", [-1]),
        ("FP64", [-1]),
        ("INT32", [-1]),
    )
    assert [one.name for one in told.outputs] == ["probability", "positive", "prediction_id"]
    assert list(told.versions) == ["3"]


def test_a_key_answers_once(stub, log):
    before, metadata = len(log.records), (*TOKEN, ("idempotency-key", "k1"))
    answers = [stub.ModelInfer(asked(), metadata=metadata) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(log.records) == before + 2
    with pytest.raises(grpc.RpcError) as other:
        stub.ModelInfer(asked((7.0,)), metadata=metadata)
    assert other.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_of_a_binary_column_are_sent_as_they_are():
    request = asked((1.0,))
    raw = request.inputs.add(name="raw", datatype="BYTES", shape=[1])
    raw.contents.bytes_contents.append(b"\xff\x00")
    (row,) = content_of(request, FORM)["instances"]
    assert row["raw"] == b64encode(b"\xff\x00").decode()
    raw.shape[0] = 10_001
    with pytest.raises(RequestError, match="10000 rows"):
        content_of(request, FORM)
