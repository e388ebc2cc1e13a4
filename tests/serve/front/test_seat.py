import os
import socket
import threading
import time

import httpx

from rayplat.features.server.process import Where
from rayplat.serve.admission.admission import OpenDoor
from rayplat.serve.front.head import Head
from rayplat.serve.front.listener import Front, Fronted, SeatAt
from rayplat.serve.front.neighbours import Neighbours
from rayplat.serve.front.reply import Reply
from rayplat.serve.front.seat import LONGEST_NAME, seat_path
from rayplat.serve.front.seated import Load
from tests.serve.replicas.kept import keeping, sit, spec_of, wait_for

from .served import MemoryLog, served

QUESTION = {"instances": [{"shop": "north", "amount": 0.5}]}


def test_a_long_folder_has_seats_as_well(tmp_path):
    folder = tmp_path / ("long" * 30)
    with keeping(folder) as keeper:
        assert len(os.fsencode(keeper.seats)) <= LONGEST_NAME
        assert keeper.seats.is_socket()
        assert seat_path(folder, keeper.port) == keeper.seats
        assert seat_path(folder / "other", keeper.port) != keeper.seats
    assert not keeper.seats.exists()


def test_load_is_the_mean_of_requests_on_their_way_and_the_time_of_answers():
    later = []
    load = Load(lambda _head, _body, told: later.append(told))
    head = Head("GET", "/", 0, keep_alive=True, expects=False)
    load.report()
    for _ in range(2):
        load.answer(head, b"", lambda _reply: None)
    time.sleep(0.1)
    told = load.report()
    assert 1.9 < told["ongoing"] <= 2.0
    assert told["answered"] == 0
    for one in later:
        one(Reply(b""))
    time.sleep(0.1)
    told = load.report()
    assert told["ongoing"] < 0.5
    assert told["answered"] == 2
    assert told["seconds"] >= 0.2
    assert load.report()["seconds"] == 0


def test_a_question_for_an_endpoint_without_a_replica_is_held_whoever_got_the_connection(
    tmp_path,
):
    folder = tmp_path / "front"
    with keeping(folder) as keeper:
        absent = spec_of(tmp_path, "sells")
        sit(keeper, absent).close()
        spec = spec_of(tmp_path, "buys")
        hello = {"endpoint": "buys", "spec": spec.to_json(), "since": time.time(), "bridge": False}
        near = Neighbours(folder, keeper.seats.parent)
        seat = SeatAt(keeper.seats, hello, lambda: None)
        front = Front(
            Fronted(served("buys"), OpenDoor(), MemoryLog(), near, seat=seat), Where(port=keeper.port)
        )
        front.start()
        base = f"http://127.0.0.1:{keeper.port}/v1/endpoints"
        with httpx.Client(timeout=20) as client:  # one connection
            wait_for(lambda: client.get(f"{base}/buys").status_code == 200)
            late = sit_soon(keeper, absent)
            answer = client.post(f"{base}/sells/predict", json=QUESTION)
            assert (answer.status_code, answer.json()["endpoint"]) == (200, "sells")
            assert client.get(f"{base}/neither").status_code == 404
        late().close()
        front.close()


def sit_soon(keeper, spec):
    """Let a replica sit down once somebody waits for it; gives a way to it."""
    made = []

    def wait():
        wait_for(lambda: keeper.told()[spec.endpoint]["held"] == 1)
        made.append(sit(keeper, spec))

    thread = threading.Thread(target=wait)
    thread.start()

    def there():
        thread.join(20)
        return made[0]

    return there


def test_without_a_keeper_a_front_answers_its_neighbours_and_waits(tmp_path):
    seat = SeatAt(tmp_path / "nobody", {}, lambda: None)
    front = Front(Fronted(served(), OpenDoor(), MemoryLog(), seat=seat), Where(port=1))
    front.start()
    answer = httpx.post(f"http://127.0.0.1:{front.private_port}/v1/endpoints/buys/predict", json=QUESTION)
    assert answer.status_code == 200
    front.close()
    with socket.socket() as gone:
        assert gone.connect_ex(("127.0.0.1", front.private_port)) != 0
