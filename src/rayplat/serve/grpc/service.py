"""The service of the Open Inference Protocol, as Ray Serve's gRPC door calls it on a replica.

Knows which answer over HTTP is which message or status; how a question is answered, logged and let in is the
same for both (`http.EndpointApp.predict`), so the numbers are too. It does not know sockets.

An error has a status, its reason in the details, the problem document of HTTP in the trailing metadata
`problem-bin`, and `retry-after` (s) where asking again may help.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from rayplat.features.server.faults import RefusedError
from rayplat.serve.front.inference import SERVER, metadata
from rayplat.serve.front.reply import Reply, reply_to
from rayplat.serve.grpc import open_inference_pb2 as pb
from rayplat.serve.grpc.tensors import answer_of, content_of
from rayplat.serve.request import RequestForm
from rayplat.serve.served import Served

if TYPE_CHECKING:
    import grpc

SERVICER = "rayplat.serve.grpc.open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
"""What Ray Serve is told of the service."""

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
_MOST_DETAILS = 1000

Predict = Callable[[dict[bytes, bytes], Callable[[RequestForm], bytes], str | None], Awaitable[Reply]]
"""Headers, what makes the JSON body, and another model or version -> the reply."""


class Context(Protocol):
    """What of a call is asked for and set; Ray Serve's context has it."""

    def invocation_metadata(self) -> Sequence[tuple[str, Any]]:
        """What the caller has sent beside the message."""

    def set_code(self, code: "grpc.StatusCode") -> None:
        """Set the status."""

    def set_details(self, details: str) -> None:
        """Say why."""

    def set_trailing_metadata(self, trailing_metadata: list[tuple[str, Any]]) -> None:
        """Send more behind the answer."""


class Inference:
    """Answers the protocol's calls for one endpoint.

    Args:
        predict: answers a question as HTTP does.
        choices: the models and versions beside the endpoint's own, by the name that is given as a version.
    """

    def __init__(self, served: Served, predict: Predict, choices: Collection[str] = ()) -> None:
        self._choices = choices
        self._served = served
        self._predict = predict
        self._name = served.predictor.endpoint

    def server(self) -> pb.ServerMetadataResponse:
        """What the server tells of itself."""
        return pb.ServerMetadataResponse(name=str(SERVER["name"]), version="2", extensions=())

    def ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether the endpoint answers."""
        try:
            self._check(request.name, request.version)
        except RefusedError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    def model(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """What the endpoint tells of its model."""
        try:
            if self._check(request.name, request.version) is not None:
                raise RefusedError(404, "the columns of another model are told where it is deployed alone")
        except RefusedError as error:
            _refuse(context, reply_to(error))
            return pb.ModelMetadataResponse()
        version, form = self._served.predictor.version, self._served.form
        told = metadata(self._name, version, form, self._choices)
        return pb.ModelMetadataResponse(**told)

    async def infer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Predict."""
        reply = await self._inferred(request, context)
        if reply.status != 200:
            _refuse(context, reply)
            return pb.ModelInferResponse()
        return answer_of(orjson.loads(reply.body), request.id)

    async def _inferred(self, request: pb.ModelInferRequest, context: Context) -> Reply:
        headers = {
            name.lower().encode(): value if isinstance(value, bytes) else value.encode()
            for name, value in context.invocation_metadata()
        }
        try:
            choice = self._check(request.model_name, request.model_version)
        except RefusedError as error:
            return reply_to(error)
        named = headers.get(b"multiplexed_model_id")
        if choice is None and named is not None:
            choice = named.decode("latin-1")
        return await self._predict(headers, lambda form: orjson.dumps(content_of(request, form)), choice)

    def _check(self, name: str, version: str) -> str | None:
        """Which choice is asked; None: the endpoint's own model."""
        if name != self._name:
            raise RefusedError(404, f"the model {name[:100]!r} does not answer here; {self._name!r} does")
        if not version or version == str(self._served.predictor.version):
            return None
        if version not in self._choices:
            raise RefusedError(404, f"the version {version[:100]!r} does not answer here")
        return version


def _refuse(context: Context, reply: Reply) -> None:
    import grpc

    told = orjson.loads(reply.body)
    context.set_code(grpc.StatusCode[_STATUS.get(reply.status, "INTERNAL")])
    faults = told.get("faults", ())
    context.set_details("; ".join((told["detail"], *map(str, faults)))[:_MOST_DETAILS])
    trailing: list[tuple[str, Any]] = []
    if len(reply.body) <= 4 * _MOST_DETAILS:
        trailing.append(("problem-bin", reply.body))
    for line in reply.more.decode("latin-1").splitlines():
        key, _, value = line.partition(": ")
        if key == "retry-after":
            trailing.append((key, value))
    context.set_trailing_metadata(trailing)
