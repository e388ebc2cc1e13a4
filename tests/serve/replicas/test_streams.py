"""Answers in parts through a keeper: dealt to replicas and to standbys like any other connection."""

import threading
import time
from dataclasses import replace

import httpx
import orjson
import pytest

from rayplat.core.project.serving import Answering, Autoscale
from rayplat.core.settings import Settings
from rayplat.features.server.process import Where
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.front.listener import Front, Fronted, SeatAt
from rayplat.serve.front.neighbours import front_folder
from rayplat.serve.replica import build_app
from rayplat.serve.replicas.keeper import Keeper
from rayplat.serve.spec import EndpointSpec
from rayplat.serve.stream_run import Parts
from tests.serve.front.served import MemoryLog, good, served
from tests.serve.world import DAY, HOUR, expected, make_world

from .kept import keeping, sit, spec_of, wait_for
from .test_standby import free_port

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

PATH = "/v1/endpoints/buys/predict"
LINES = {"accept": "application/jsonl"}


def test_a_replica_that_leaves_finishes_its_stream_and_counts_it_as_going_on(tmp_path):
    go_on = threading.Event()

    def told(run):
        yield "first"
        assert go_on.wait(30)
        yield "second"

    spec = spec_of(tmp_path, autoscale=Autoscale(1, 4))
    with keeping(tmp_path / "front") as keeper:
        hello = {"endpoint": "buys", "spec": spec.to_json(), "since": time.time(), "bridge": False}
        of = replace(served(), parts=Parts(told, {3: None}))
        seat = SeatAt(keeper.seats, hello, lambda: None)
        front = Front(Fronted(of, OpenDoor(), MemoryLog(), seat=seat), Where(port=keeper.port))
        front.start()
        wait_for(keeper.sitting)
        url = f"http://127.0.0.1:{keeper.port}{PATH}"
        with httpx.Client() as http, http.stream("POST", url, content=good(), headers=LINES) as answer:
            lines = answer.iter_lines()
            assert orjson.loads(next(lines))["event"] == "prediction"
            wait_for(lambda: keeper.sitting()[0].ongoing > 0.9)
            other = sit(keeper, spec)
            leaving = threading.Thread(target=front.close)
            leaving.start()
            wait_for(lambda: len(keeper.sitting()) == 1 or keeper.sitting()[0].leaving)
            assert httpx.post(url, content=good()).status_code == 200  # of the other one
            go_on.set()
            rest = [orjson.loads(line)["event"] for line in lines]
        assert rest == ["part", "part", "done"]
        leaving.join(20)
        other.close()


STREAM = """

def told(run):
    yield {"probability": run.probability, "price": run.features["price__last"]}
    yield float(run.network(__import__("torch").zeros(1, 3)))


shop.endpoints[0] = __import__("dataclasses").replace(shop.endpoints[0], stream=told)
"""


@pytest.mark.slow
def test_the_first_request_after_zero_is_a_stream_from_a_standby(tmp_path):
    serve = {"front_port": free_port(), "log_sync": "process"}
    world = make_world(tmp_path, Settings.model_validate({"home": tmp_path, "serve": serve}))
    world.crown(world.register())
    file = tmp_path / "shop" / "project.py"
    file.write_text(file.read_text() + STREAM)
    champion = world.registry.by_alias("buys", "champion")
    spec = EndpointSpec(
        settings=world.settings,
        project=world.project.address,
        definitions_sha256="",
        endpoint="buys",
        model="buys",
        version=1,
        artifact_uri=champion.artifact_uri,
        manifest_sha256=champion.manifest_sha256,
        autoscale=Autoscale(0, 2, idle_s=0.3, calm_s=0.2),
        answering=Answering(timeout_s=30),
        kept=True,
    )
    port = world.settings.serve.front_port
    keeper = Keeper(front_folder(world.settings), Where(port=port), standbys=1)
    keeper.start()
    try:
        build_app(spec).close()  # as Serve's replica would, it tells the endpoint
        wait_for(lambda: keeper.told().get("buys", {}).get("standbys") == 1, 60)
        body = {"instances": [{"shop": "north", "amount": 0.5}], "at": (DAY + 2.5 * HOUR).isoformat()}
        answer = httpx.post(f"http://127.0.0.1:{port}{PATH}", json=body, headers=LINES, timeout=60)
        told = [orjson.loads(line) for line in answer.text.splitlines()]
        assert [one["event"] for one in told] == ["prediction", "part", "part", "done"]
        probability = told[0]["data"]["predictions"][0]["probability"]
        assert probability == pytest.approx(expected(3.0, 2.0, 0.5), abs=1e-6)
        assert told[1]["data"] == {"probability": probability, "price": 3.0}
        assert told[2]["data"] == pytest.approx(-1.0)
    finally:
        keeper.close()
