"""The peers of benchmarks/serving.py that serve models: the same no-op, one replica each.

    serving_peers.py KIND PORT

Knows how each is started for speed; it does not know the load. `ray_serve` is Ray Serve as it comes,
`ray_serve_haproxy` with its HAProxy ingress and throughput mode, `litserve` and `bentoml` as their documents
start them, with one worker. Each prints a line when it is about to listen, and ends with its process group.
"""

import os
import sys
import tempfile
from pathlib import Path

HAPROXY = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
}


LITSERVE = """
import litserve as ls


class Model(ls.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request

    def predict(self, x):
        return {"predictions": [{"probability": one["amount"]} for one in x["instances"]]}

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    model = Model(api_path="/v1/endpoints/buys/predict")
    server = ls.LitServer(model, accelerator="cpu", workers_per_device=1)
    server.run(port=PORT, host="127.0.0.1", generate_client_file=False, log_level="error")
"""


def ray_serve(port: int) -> None:
    """One replica behind Ray Serve's proxy."""
    import ray
    from ray import serve
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    @serve.deployment(num_replicas=1, max_ongoing_requests=100)
    class Model:
        async def __call__(self, request: Request) -> JSONResponse:
            told = await request.json()
            # A plain dict would be sent in chunks, which costs more.
            return JSONResponse(
                {"predictions": [{"probability": one["amount"]} for one in told["instances"]]}
            )

    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as folder:
        ray.init(num_cpus=2, include_dashboard=False, _temp_dir=folder, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(Model.bind(), route_prefix="/")
        print("ready", flush=True)
        sys.stdin.read()
        serve.shutdown()
        ray.shutdown()


def litserve(port: int) -> None:
    """One worker."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "server.py"
        script.write_text(LITSERVE.replace("PORT", str(port)))
        print("ready", flush=True)
        os.execv(sys.executable, [sys.executable, str(script)])


def bentoml(port: int) -> None:
    """One worker."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "service.py").write_text(
            "import bentoml\n\n\n@bentoml.service(workers=1)\nclass Model:\n"
            "    @bentoml.api(route='/v1/endpoints/buys/predict')\n"
            "    def predict(self, instances: list) -> dict:\n"
            "        return {'predictions': [{'probability': one['amount']} for one in instances]}\n"
        )
        os.chdir(folder)
        print("ready", flush=True)
        argv = [
            sys.executable,
            "-m",
            "bentoml",
            "serve",
            "service:Model",
            "-p",
            str(port),
            "--host",
            "127.0.0.1",
        ]
        os.execv(sys.executable, [*argv, "-q"])


if __name__ == "__main__":
    {"ray_serve": ray_serve, "ray_serve_haproxy": ray_serve, "litserve": litserve, "bentoml": bentoml}[
        sys.argv[1]
    ](int(sys.argv[2]))
