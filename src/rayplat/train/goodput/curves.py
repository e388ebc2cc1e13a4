"""Curves over the time of a run, of values that many workers tell: their mean in each stretch of time.

Knows how points are gathered and thinned; it does not know what the values mean.
"""

from collections.abc import Mapping, Sequence

_STRETCH_S = 5
_MOST_POINTS = 720


class Curves:
    """Mean values by stretch of time; stretches grow as the run gets longer, so points stay few.

    Args:
        before: the curves of earlier calls of the run; new points come after them.
    """

    def __init__(self, before: Mapping[str, Sequence[tuple[int, float]]] | None = None) -> None:
        self._stretch = _STRETCH_S
        self._sums: dict[str, dict[int, tuple[float, int]]] = {}
        self._after = 0
        for name, points in (before or {}).items():
            self._sums[name] = {at: (value, 1) for at, value in points}
            self._after = max([self._after, *(at + _STRETCH_S for at, _ in points)])

    def add(self, seconds: float, values: Mapping[str, float]) -> None:
        """One worker's values at a time since this call began."""
        at = self._after + int(seconds) // self._stretch * self._stretch
        for name, value in values.items():
            curve = self._sums.setdefault(str(name), {})
            total, count = curve.get(at, (0.0, 0))
            curve[at] = total + float(value), count + 1
            if len(curve) > _MOST_POINTS:
                self._widen()

    def points(self) -> dict[str, list[tuple[int, float]]]:
        """(seconds, mean) of each curve, in the order of time."""
        return {
            name: [(at, total / count) for at, (total, count) in sorted(curve.items())]
            for name, curve in sorted(self._sums.items())
        }

    def _widen(self) -> None:
        self._stretch *= 2
        for name, curve in self._sums.items():
            wider: dict[int, tuple[float, int]] = {}
            for at, (total, count) in curve.items():
                start = at // self._stretch * self._stretch
                old, several = wider.get(start, (0.0, 0))
                wider[start] = old + total, several + count
            self._sums[name] = wider
