"""Frequent values: how often each is there, exactly while they are few, and else by a sample.

Knows counts by value; it does not know how rows are sampled.
"""

import polars as pl

FEW = 1000
"""Up to so many distinct values all of them are counted."""

_COUNT = pl.Float64
_DRAWN = 3


class Frequent:
    """Counts values; two of them merge into the counts of both.

    Attributes:
        exact: whether every value that was seen is here with its exact count.
    """

    def __init__(self, dtype: pl.DataType) -> None:
        self.exact = True
        self._weight = 1.0
        self._counts = pl.DataFrame(schema={"value": dtype, "count": _COUNT})

    def update(self, counts: pl.DataFrame, weight: float = 1.0) -> None:
        """Take counts in.

        Args:
            counts: columns `value` and `count`, without null.
            weight: how many rows each counted one stands for; over 1: a sample was counted.
        """
        self.exact = self.exact and weight == 1.0
        self._weight = max(self._weight, weight)
        self._add(counts.with_columns(pl.col("count").cast(_COUNT) * weight))

    def merge(self, other: "Frequent") -> None:
        """Take in what another one has counted."""
        self.exact = self.exact and other.exact
        self._weight = max(self._weight, other._weight)
        self._add(other._counts)

    def top(self, most: int) -> list[tuple[object, int]]:
        """The most frequent values with their counts, the most frequent first.

        Of a sample only those that were drawn three times or more: one that was drawn once leads nothing.
        """
        least = 1.0 if self.exact else _DRAWN * self._weight
        first = (
            self._counts.filter(pl.col("count") >= least)
            .sort(["count", "value"], descending=[True, False])
            .head(most)
        )
        return [(value, round(count)) for value, count in first.iter_rows()]

    def all(self) -> pl.DataFrame:
        """Every counted value, columns `value` and `count`, by value."""
        return self._counts.sort("value")

    def _add(self, counts: pl.DataFrame) -> None:
        both = pl.concat([self._counts, counts]).group_by("value").agg(pl.col("count").sum())
        if both.height > FEW:
            # The rare ones are dropped. A value that leads a column is among the first thousand of a sample.
            self.exact = False
            both = both.sort("count", descending=True).head(FEW)
        self._counts = both
