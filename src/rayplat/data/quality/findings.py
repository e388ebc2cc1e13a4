"""Findings: what the checks of a table as a whole say of one round, and who is told.

Knows verdicts as values and how a warning is made known; it does not know how a check is carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from rayplat.core.errors import UserError
from rayplat.core.events import Event, EventBus
from rayplat.core.telemetry import counter, get_logger


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that did not pass.

    Attributes:
        check: what was declared, such as `unique(flight_id)`.
        told: what was seen, with the bound that it broke.
    """

    check: str
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityWarned(Event):
    """A check of a table as a whole did not pass, and the table was committed to all the same."""

    table: str
    check: str
    told: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the table checks say of the rows of a round.

    Attributes:
        quarantine: one text a row, the reasons joined by `; `; null where the row is good. None: no row
            is to be set aside.
        warnings: what is to be made known; `stop`: why the round must not be committed.
    """

    quarantine: pl.Series | None = None
    warnings: Sequence[Finding] = ()
    stop: Sequence[Finding] = ()

    def enforce(self, table: str) -> None:
        """Refuse the round if a check with `on_fail="stop"` did not pass: before anything is committed.

        Raises:
            UserError: with every such check.
        """
        if self.stop:
            raise UserError(
                f"nothing was committed to {table}: "
                + "; ".join(f"{finding.check}: {finding.told}" for finding in self.stop),
                "mend the source, or change the check or its on_fail; the same records are read again",
            )

    def tell(self, table: str, bus: EventBus) -> None:
        """Make the warnings known: an event, a log line and `rayplat_quality_warnings_total` each."""
        for finding in self.warnings:
            counter(
                "quality_warnings_total", "Checks of a table that did not pass", ["table", "check"]
            ).labels(table, finding.check).inc()
            get_logger("data.quality").warning(
                "check_failed", table=table, check=finding.check, told=finding.told
            )
            bus.emit(QualityWarned(table=table, check=finding.check, told=finding.told))


GOOD = Verdict()
"""No check has anything to say."""
