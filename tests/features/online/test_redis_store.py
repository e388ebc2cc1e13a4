"""Redis: the contract of all stores against a real server, alone and as a cluster."""

import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.features.online.opening import open_online
from rayplat.features.online.redis_store import RedisOnlineStore
from rayplat.features.online.store import Change
from tests.features.online import redis_server
from tests.features.online_contract import A, OnlineStoreContract, at, heads, key


@pytest.fixture(scope="module", params=["alone", "cluster"])
def server(request, tmp_path_factory):
    process, url = redis_server.start(tmp_path_factory.mktemp("redis"), cluster=request.param == "cluster")
    yield url
    process.terminate()
    process.wait()


class TestRedis(OnlineStoreContract):
    @pytest.fixture
    def open_store(self, server):
        opened: list[RedisOnlineStore] = []

        def open_one() -> RedisOnlineStore:
            opened.append(RedisOnlineStore(server))
            return opened[-1]

        open_one()._client().flushall()
        yield open_one
        for store in opened:
            store.close()

    def test_nothing_is_left_of_a_dropped_or_replaced_view(self, open_store):
        store = open_store()
        change = Change(None, b"h", [(key(1), b"x")])
        store.write("v", {A: change, b'["b"]': change}, at(1), expected=None)
        store.write("v", {A: change}, at(2), expected=at(1), replace=True)
        held = [k for k in store._client().scan_iter() if k.startswith(b"rayplat:{v:")]
        assert len(held) == 2
        store.drop("v")
        assert list(store._client().scan_iter()) == []


def test_addresses(tmp_path):
    open_online(Settings(home=tmp_path, online="rediss://u:p@host:1/0")).close()
    with pytest.raises(UserError, match="no address"):
        heads(RedisOnlineStore("redis://host:port/0"), "v", A)
    with pytest.raises(UnavailableError, match="does not answer") as told:
        heads(RedisOnlineStore("redis://user:secret@127.0.0.1:1/0"), "v", A)
    assert "secret" not in told.value.what
