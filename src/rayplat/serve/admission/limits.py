"""How much a caller may ask: a lasting rate, a burst, and a quota of a day.

Knows the numbers and which of them make sense; it does not know who is limited, nor how it is counted.
"""

from dataclasses import dataclass

from rayplat.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a caller may ask; None: no limit. A request counts as many as it has instances.

    Attributes:
        rate: instances a second, lasting.
        burst: how many at once after a pause.
        daily: instances a day (UTC).
    """

    rate: float | None = None
    burst: float | None = None
    daily: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("burst", self.burst), ("daily", self.daily)):
            if value is not None and not value > 0:
                raise UserError(
                    f"a {name} of {value} lets nothing through", "give a number over 0, or revoke"
                )
        if self.burst is not None and self.rate is None:
            raise UserError("a burst without a rate means nothing", "give a rate too")


UNLIMITED = Limits()
