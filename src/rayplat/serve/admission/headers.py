"""Headers of admission: what a refusal carries, and which trace a request belongs to.

Knows their forms; it does not know who sends them.
"""

import math
import re

from rayplat.serve.admission.decision import Refused

_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL)


def refusal_headers(refused: Refused) -> list[tuple[bytes, bytes]]:
    """`Retry-After` in whole seconds, where a time is known; for 401 how to authenticate (RFC 6750)."""
    found = []
    if refused.retry_after_s is not None and math.isfinite(refused.retry_after_s):
        found.append((b"retry-after", str(max(1, math.ceil(refused.retry_after_s))).encode()))
    if refused.status == 401:
        found.append((b"www-authenticate", b'Bearer realm="rayplat"'))
    return found


def trace_id(traceparent: bytes | None) -> str | None:
    """The trace id of a W3C `traceparent`; None where there is none, or it is not well-formed."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if match is None or not match[1].strip(b"0") or (traceparent or b"").startswith(b"ff"):
        return None
    return match[1].decode()
