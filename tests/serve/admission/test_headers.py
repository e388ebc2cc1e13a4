import math

import pytest

from rayplat.serve.admission.decision import Refused
from rayplat.serve.admission.headers import refusal_headers, trace_id

TRACE = b"0af7651916cd43dd8448eb211c80319c"


def test_a_refusal_says_when_and_how():
    assert refusal_headers(Refused(429, "", 0.05)) == [(b"retry-after", b"1")]
    assert refusal_headers(Refused(503, "", 1.2)) == [(b"retry-after", b"2")]
    assert refusal_headers(Refused(429, "", math.inf)) == []
    assert refusal_headers(Refused(401, "")) == [(b"www-authenticate", b'Bearer realm="rayplat"')]


def test_a_trace_is_read_from_its_header():
    assert trace_id(b"00-" + TRACE + b"-b7ad6b7169203331-01") == TRACE.decode()
    assert trace_id(b"01-" + TRACE + b"-b7ad6b7169203331-01-more") == TRACE.decode()


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"",
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"ff-" + TRACE + b"-b7ad6b7169203331-01",
        b"00-" + TRACE.upper() + b"-b7ad6b7169203331-01",
        b"00-" + TRACE + b"-b7ad6b7169203331-01" + b"x",
        b"\xff" * 55,
    ],
)
def test_what_is_no_trace_is_left_out(wrong):
    assert trace_id(wrong) is None
