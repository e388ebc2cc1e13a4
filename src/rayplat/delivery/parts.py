"""What the loop needs of a platform.

Knows the names of the parts; it does not know how they are built (the wiring does).
"""

from typing import Protocol

from rayplat.core.events import EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.online.store import OnlineStore
from rayplat.governance.audit_log import AuditLog
from rayplat.registry.store import Registry


class Parts(Protocol):
    """The fields of a platform that the loop uses."""

    @property
    def settings(self) -> Settings:
        """The settings."""

    @property
    def bus(self) -> EventBus:
        """Where events are emitted."""

    @property
    def lake(self) -> Lakehouse:
        """The tables."""

    @property
    def registry(self) -> Registry:
        """Runs, versions and aliases."""

    @property
    def online(self) -> OnlineStore:
        """The latest feature values."""

    @property
    def audit(self) -> AuditLog:
        """The log that cannot be edited unseen."""
