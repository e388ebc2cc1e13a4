"""Settings -> Platform: which part is built from which setting, and who hears which event.

Knows every part by name; it has no behaviour of its own.
"""

from dataclasses import dataclass

from rayplat.core.events import Event, EventBus
from rayplat.core.settings import Settings
from rayplat.data.lakehouse.catalog import Lakehouse
from rayplat.features.online.opening import open_online
from rayplat.features.online.store import OnlineStore
from rayplat.governance.audit_log import AuditLog
from rayplat.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Platform:
    """The parts of one platform."""

    settings: Settings
    bus: EventBus
    lake: Lakehouse
    registry: Registry
    online: OnlineStore
    audit: AuditLog


def build_platform(settings: Settings) -> Platform:
    """Build the parts; stores are opened when they are first used, and Ray is not touched."""
    bus = EventBus()
    audit = AuditLog(settings)
    bus.subscribe(Event, audit.record)
    return Platform(
        settings=settings,
        bus=bus,
        lake=Lakehouse(settings),
        registry=Registry(settings),
        online=open_online(settings),
        audit=audit,
    )
