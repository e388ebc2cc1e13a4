"""Whether batches are quick enough to be worked on between two turns of the event loop.

Knows how long batches took; it does not know what was done. Pure: times are arguments.

A model that has not answered yet counts as slow, because its first answers load what it needs. One sample
alone does not change that, because a busy machine stretches any of them, unless it is long beyond doubt.
"""

INLINE_S = 0.0005
"""What a batch may take, beside what each of its requests costs in Python wherever it runs."""

REQUEST_S = 0.00006
"""What reading and recording one request costs: no thread takes that off the loop."""

LONG_S = 0.01
"""A batch that takes so much longer is slow at once."""

_IN_A_ROW = 2


class Pace:
    """What the last batches say of the next one."""

    __slots__ = ("_against", "slow")

    def __init__(self) -> None:
        self.slow = True
        self._against = 0

    def took(self, seconds: float, requests: int) -> None:
        """Take a batch into account.

        Args:
            seconds: that it took.
            requests: that it answered.
        """
        over = seconds - REQUEST_S * requests - INLINE_S
        if (over > 0) is self.slow:
            self._against = 0
            return
        self._against += 1
        if self._against >= _IN_A_ROW or over > LONG_S:
            self.slow = over > 0
            self._against = 0
