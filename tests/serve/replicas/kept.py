"""A keeper without Ray, and replicas that sit at it."""

import contextlib
import time

from rayplat.core.project.serving import Answering, Autoscale
from rayplat.core.settings import Settings
from rayplat.features.server.process import Where
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.front.listener import Front, Fronted, SeatAt
from rayplat.serve.replicas.keeper import Keeper
from rayplat.serve.spec import EndpointSpec
from tests.serve.front.served import MemoryLog, served


def spec_of(home, name="buys", autoscale=None, answering=None, **more):
    return EndpointSpec(
        settings=Settings(home=home),
        project="nowhere",
        definitions_sha256="",
        endpoint=name,
        model=name,
        version=3,
        artifact_uri="",
        manifest_sha256="",
        autoscale=autoscale or Autoscale(0, 4),
        answering=answering or Answering(),
        kept=True,
        **more,
    )


@contextlib.contextmanager
def keeping(folder, standbys=0, port=0, session=""):
    keeper = Keeper(folder, Where(port=port), standbys, session)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.close()


def sit(keeper, spec, network=lambda x: x.nan_to_num()[:, 0], bridge=False, quit_asked=lambda: None):
    """A front with a seat."""
    hello = {"endpoint": spec.endpoint, "spec": spec.to_json(), "since": time.time(), "bridge": bridge}
    seat = SeatAt(keeper.seats, hello, quit_asked)
    front = Front(
        Fronted(served(spec.endpoint, network), OpenDoor(), MemoryLog(), seat=seat), Where(port=keeper.port)
    )
    front.start()
    wait_for(lambda: any(one.hello.get("since") == hello["since"] for one in keeper.sitting()))
    return front


def wait_for(holds, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{holds} did not come about")
        time.sleep(0.005)
