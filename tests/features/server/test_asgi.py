"""The same answers over ASGI, for servers that bring their own sockets."""

import asyncio

import httpx
import pytest

from rayplat.features.online.opening import open_online
from rayplat.features.server.asgi import FeaturesApp
from tests.features.server import world


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    home = tmp_path_factory.mktemp("asgi")
    world.fill(home)
    opened = open_online(world.settings(home))
    yield opened
    opened.close()


def ask(online, method, path, local=True, **more):
    async def once():
        transport = httpx.ASGITransport(
            FeaturesApp(world.project, online, local=local), root_path="/features"
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, f"/features{path}", **more)

    return asyncio.run(once())


@pytest.mark.parametrize("local", [True, False])
def test_features_are_answered(online, local):
    answer = ask(online, "POST", "/v1/features/last", local, json={"keys": ["a", "nobody"]})
    assert answer.status_code == 200
    assert [row[0] for row in answer.json()["values"]] == [2.5, None]
    question = {"features": ["last:x"], "entities": {"entity": ["a"]}}
    told = ask(online, "POST", "/get-online-features", local, json=question).json()
    assert told["results"][1]["values"] == [2.5]


def test_refusals_are_problems(online):
    answer = ask(online, "POST", "/v1/features/nowhere", json={"keys": []})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    answer = ask(online, "DELETE", "/v1/features/last")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert ask(online, "POST", "/v1/features/last", content=b"{").status_code == 400
    assert ask(online, "POST", "/v1/features/last", content=b"x" * (9 << 20)).status_code == 413


def test_the_lifespan_is_followed(online):
    async def live():
        told = asyncio.Queue()
        for kind in ("lifespan.startup", "lifespan.shutdown"):
            told.put_nowait({"type": kind})
        said = []

        async def send(message):
            said.append(message["type"])

        await FeaturesApp(world.project, online, local=True)({"type": "lifespan"}, told.get, send)
        return said

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
