"""The knock: each reason why nobody lets us in is told for what it is, within two seconds."""

import json
import socket
import time

import pytest

from rayplat.cluster.jobs.address import Door, dashboard_address
from rayplat.cluster.jobs.preflight import Answer, Open, Shut, judge, preflight
from rayplat.core.errors import UnavailableError, UserError
from tests.cluster.jobs.fakes import FakeDashboard


def _door(address: str = "http://head:8265", token: str = "t", *, own: bool = False) -> Door:
    return Door(address, token, own, address, "the setting ray.address", "/home/ada/.ray/auth_token")


def _version(ray: str) -> Answer:
    return Answer(200, json.dumps({"version": "4", "ray_version": ray, "session_name": "session_1"}))


def test_a_ray_of_our_version_is_open() -> None:
    assert judge(_door(), _version("2.60.1"), "2.60.0") == Open("2.60.1", "session_1")


@pytest.mark.parametrize(
    ("token", "answer", "what", "mend"),
    [
        ("", Answer(401, "Unauthorized"), "wants a token, and there is none", "~/.ray/auth_token"),
        ("t", Answer(401, "Unauthorized"), "took no token", "proxy"),
        (
            "t",
            Answer(403, "Forbidden"),
            "refuses the token from /home/ada/.ray/auth_token",
            "another cluster",
        ),
        ("t", Answer(failure="refused"), "nothing listens at http://head:8265", "address and port"),
        ("t", Answer(failure="silent"), "does not answer within 1.8 s", "VPN"),
        ("t", Answer(failure="Name or service not known"), "Name or service not known", "correct"),
        ("t", Answer(404, "<html>nginx"), "no Ray dashboard: it said 404 '<html>nginx'", "8265"),
        ("t", Answer(200, "[1]"), "no Ray dashboard", "8265"),
        ("t", _version("2.58.0"), "runs Ray 2.58.0, and Ray 2.60.0 is installed here", "image"),
    ],
)
def test_each_reason_is_told_for_what_it_is(token: str, answer: Answer, what: str, mend: str) -> None:
    verdict = judge(_door(token=token), answer, "2.60.0")
    assert isinstance(verdict, Shut)
    assert what in verdict.what
    assert mend in verdict.mend
    assert "the setting ray.address" in verdict.what


def _refused(door: Door) -> tuple[str, float]:
    begin = time.monotonic()
    with pytest.raises(UnavailableError) as told:
        preflight(door)
    return told.value.what, time.monotonic() - begin


def test_real_sockets_are_told_apart_within_two_seconds(dashboard: FakeDashboard) -> None:
    dashboard.token = "right"
    with socket.create_server(("127.0.0.1", 0)) as deaf, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        cases = {
            "wants a token": _door(dashboard.address, ""),
            "refuses the token": _door(dashboard.address, "wrong"),
            "nothing listens": _door(f"http://127.0.0.1:{closed.getsockname()[1]}"),
            "does not answer": _door(f"http://127.0.0.1:{deaf.getsockname()[1]}"),
            "cannot be reached": _door("http://nobody.invalid:8265"),
        }
        for wanted, door in cases.items():
            what, took = _refused(door)
            assert wanted in what
            assert took < 2.0, wanted
    assert preflight(_door(dashboard.address, "right")) == Open("2.60.0", "session_1")


def test_a_ray_of_this_machine_that_is_slow_is_waited_for() -> None:
    answers = [Answer(failure="silent"), Answer(failure="silent"), _version("2.60.0")]
    assert preflight(_door(own=True), lambda _door, _s: answers.pop(0)).session == "session_1"
    with pytest.raises(UnavailableError, match="does not answer"):
        preflight(_door(), lambda _door, _s: Answer(failure="silent"))


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("http://h:9999/", "http://h:9999"),
        ("https://ray.example.com", "https://ray.example.com"),
        ("ray://h:10001", "http://h:8265"),
        ("10.0.0.7:6379", "http://10.0.0.7:8265"),
        ("[fe80::1]:6379", "http://[fe80::1]:8265"),
        ("h", "http://h:8265"),
    ],
)
def test_the_jobs_api_is_found_from_what_was_said(said: str, address: str) -> None:
    assert dashboard_address(said, 8265) == address


@pytest.mark.parametrize("said", ["auto", "ftp://h", "http://", "://"])
def test_an_address_without_a_host_is_refused(said: str) -> None:
    with pytest.raises(UserError, match="no jobs API can be told"):
        dashboard_address(said, 8265)
