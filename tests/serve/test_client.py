"""A question that is refused for a moment is asked again; any other refusal is told at once."""

import httpx
import pytest

from rayplat.core.errors import UnavailableError
from rayplat.serve.client import predict

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
