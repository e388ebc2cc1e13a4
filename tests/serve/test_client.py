"""A question that is refused for a moment is asked again; any other refusal is told at once."""

import httpx
import pytest

from rayplat.core.errors import UnavailableError, UserError
from rayplat.serve.client import predict, stream

URL = "http://endpoint/endpoints/late"
ANSWER = {"endpoint": "late", "model": "late", "version": 1, "predictions": []}


def asking(*answers: httpx.Response) -> tuple[httpx.Client, list[bytes]]:
    """A client that is given these answers, and what it has sent."""
    left, sent = list(answers), list[bytes]()

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.content)
        return left.pop(0)

    return httpx.Client(transport=httpx.MockTransport(answer)), sent


def busy(retry_after: str | None) -> httpx.Response:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    return httpx.Response(503, headers=headers, json={"detail": "too many requests wait"})


def test_an_endpoint_that_says_when_to_ask_again_is_asked_again():
    http, sent = asking(busy("0"), busy("0"), httpx.Response(200, json=ANSWER))
    assert predict(URL, [{"key": 1}], http=http) == ANSWER
    assert len(sent) == 3
    assert len(set(sent)) == 1


@pytest.mark.parametrize("retry_after", [None, "soon", "3600"])
def test_one_that_does_not_or_not_in_time_is_not(retry_after):
    http, sent = asking(busy(retry_after), httpx.Response(200, json=ANSWER))
    with pytest.raises(UnavailableError, match="too many requests wait"):
        predict(URL, [{"key": 1}], http=http, timeout_s=1.0)
    assert len(sent) == 1


PARTS = b'{"event":"prediction","data":{"predictions":[{"id":"prd_1"}]}}\n{"event":"part","data":7}\n'


def test_a_stream_is_told_event_by_event_until_it_is_done():
    http, sent = asking(httpx.Response(200, content=PARTS + b'{"event":"done","data":{"ids":["prd_1"]}}\n'))
    names, data = zip(*stream(URL, {"key": 1}, http=http), strict=True)
    assert names == ("prediction", "part", "done")
    assert data[1:] == (7, {"ids": ["prd_1"]})
    assert b'"instances":[{"key":1}]' in sent[0]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (b'{"event":"error","data":{"status":500,"detail":"its log says why"}}\n', "its log says why"),
        (b"", "without `done`"),
        (b'{"eve', "events"),
    ],
)
def test_a_stream_without_done_is_no_answer(end, told):
    http, _ = asking(httpx.Response(200, content=PARTS + end))
    seen = []
    with pytest.raises(UnavailableError, match=told):
        seen.extend(stream(URL, {"key": 1}, http=http))
    assert [name for name, _ in seen] == ["prediction", "part"]


def test_a_stream_that_is_refused_is_told_as_any_refusal():
    http, _ = asking(httpx.Response(406, json={"detail": "does not answer in parts"}))
    with pytest.raises(UserError, match="does not answer in parts"):
        list(stream(URL, {"key": 1}, http=http))
