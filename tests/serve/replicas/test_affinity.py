import http.client
from collections import Counter

import pytest

from rayplat.core.project.serving import Autoscale
from rayplat.serve.replicas.affinity import SLACK, asked_choice, turn_of

from .kept import keeping, sit, spec_of, wait_for

BODY = b'{"instances": [{"shop": "north", "amount": 0.5}]}'


@pytest.mark.parametrize(
    ("seen", "choice"),
    [
        (b"POST /v1/endpoints/buys/models/south/predict HTTP/1.1\r\n", b"south"),
        (b"POST /v2/models/buys/versions/3/infer HTTP/1.1\r\n", b"3"),
        (b"POST /v1/endpoints/buys/predict HTTP/1.1\r\nHost: x\r\nRayplat-Model: south\r\n\r\n", b"south"),
        (b"POST /v1/endpoints/buys/predict HTTP/1.1\r\nserve_multiplexed_model_id:7\r\n", b"7"),
        (b"POST /v1/endpoints/buys/predict HTTP/1.1\r\n\r\n", None),
        (b"POST /v1/endpoints/buys/predict?x=/models/south/predict HTTP/1.1\r\n", None),
        (b"POST /v1/endpoints/buys/models/../predict HTTP/1.1\r\n", None),
        (b"\x16\x03\x01", None),
    ],
)
def test_a_request_names_its_choice(seen, choice):
    assert asked_choice(seen) == choice


def first(choice, replicas):
    least = min(replicas.values())
    return min(replicas, key=lambda name: turn_of(choice, name, replicas[name], least))


def test_choices_spread_stay_and_only_those_of_a_replica_that_goes_move():
    choices = [b"m%d" % i for i in range(300)]
    replicas = dict.fromkeys("abc", 0)
    before = {choice: first(choice, replicas) for choice in choices}
    assert min(Counter(before.values()).values()) > 60
    del replicas["b"]
    after = {choice: first(choice, replicas) for choice in choices}
    assert {choice for choice in choices if after[choice] != before[choice]} == {
        choice for choice in choices if before[choice] == "b"
    }


def test_a_replica_that_is_much_busier_is_passed_over():
    replicas = dict.fromkeys("abc", 0)
    liked = first(b"south", replicas)
    replicas[liked] = SLACK
    assert first(b"south", replicas) == liked
    replicas[liked] = SLACK + 1
    assert first(b"south", replicas) != liked


def test_connections_for_one_choice_go_to_one_replica(tmp_path):
    spec = spec_of(tmp_path, autoscale=Autoscale(1, 4))
    with keeping(tmp_path / "front") as keeper:
        fronts = [sit(keeper, spec) for _ in range(3)]
        peers = [http.client.HTTPConnection("127.0.0.1", keeper.port, timeout=20) for _ in range(SLACK)]
        for peer in peers:
            peer.request("POST", "/v1/endpoints/buys/models/south/predict", BODY)
            assert peer.getresponse().read()
        wait_for(lambda: sorted(one.open for one in keeper.sitting()) == [0, 0, SLACK])
        for peer in peers:
            peer.close()
        for front in fronts:
            front.close()
