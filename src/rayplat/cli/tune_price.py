"""What a worker of a study costs by the second: its share of a node at the price that holds now.

Knows where a group's price and shape are read; it does not know what is charged with it.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rayplat.core.errors import NotFoundError

if TYPE_CHECKING:
    from rayplat.core.settings import Settings

_LOOKED_UP_EVERY_S = 60.0
_NANO_HOURS = 1e9 * 3600


def worker_price(
    settings: "Settings", group: str, market: str, cpus: float, gpus: float
) -> Callable[[], float]:
    """The price of a worker by the second; a price that changes holds within a minute.

    A worker is charged the larger of its shares of the node's CPUs and GPUs: the rest of that node is no
    more use to another worker of the same kind.

    Raises:
        NotFoundError: the cluster file has no such group.
        UnknownPriceError: the group has no price on this market.
    """
    from rayplat.cost.accounts import Accounts
    from rayplat.cost.ledger import now_utc
    from rayplat.cost.usage import micros

    with Accounts(settings) as accounts:
        nodes = accounts.sources.spec.groups.get(group)
        known = ", ".join(accounts.sources.spec.groups)
    if nodes is None:
        raise NotFoundError(f"the cluster file has no group {group!r}", f"there is: {known}")
    share = max(cpus / nodes.cpus, gpus / nodes.gpus if nodes.gpus else 0.0)

    def look_up() -> float:
        now = now_utc()
        with Accounts(settings) as accounts:
            price = accounts.prices(now).at(group, market, micros(now))
        return price / _NANO_HOURS * share

    kept, at = look_up(), time.monotonic()

    def price() -> float:
        nonlocal kept, at
        if time.monotonic() - at > _LOOKED_UP_EVERY_S:
            kept, at = look_up(), time.monotonic()
        return kept

    return price
