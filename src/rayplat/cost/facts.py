"""The cluster's history of nodes and uses as the meter reads it.

Knows that the history is kept in the platform's database; it does not know who wrote it.
"""

from contextlib import closing
from datetime import datetime

from rayplat.core.settings import Settings
from rayplat.cost.usage import Facts


class FactsOf:
    """The facts of a platform's clusters, those that are gone included."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def between(self, begin: datetime, end: datetime) -> Facts:
        """See `FactSource`."""
        from rayplat.cluster.history import ClusterHistory

        with closing(ClusterHistory(self._settings)) as history:
            return Facts(history.nodes(begin, end), history.uses(begin, end))

    def earliest(self) -> datetime | None:
        """See `FactSource`."""
        from rayplat.cluster.history import ClusterHistory

        with closing(ClusterHistory(self._settings)) as history:
            return history.first_start()
