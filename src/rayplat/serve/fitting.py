"""Whether as many instances as a request has can ever pass a caller's limits.

Knows the limits; it does not know what is left of them. What never fits is no matter of waiting: it is told
apart from what is too much now.
"""

from rayplat.serve.admission.limits import Limits
from rayplat.serve.request import RequestError


def check_fits(limits: Limits, rows: int) -> None:
    """Refuse a request that no waiting would let through.

    Raises:
        RequestError: with 413, and how many may be sent at once.
    """
    most = []
    if limits.rate is not None:
        most.append(limits.burst if limits.burst is not None else max(1.0, limits.rate))
    if limits.daily is not None:
        most.append(float(limits.daily))
    fits = max(1, int(min(most))) if most else rows
    if rows > fits:
        raise RequestError(413, (f"{rows} instances are never let in at once: send at most {fits}",))
