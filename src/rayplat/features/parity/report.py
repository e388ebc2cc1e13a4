"""What a proof found: counts, and for each feature the first difference with its cause.

Knows the shape of the result; it does not know how it came about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Why a served value is not the one that is made anew."""

    DEFINITION = "definition"
    """The view was defined otherwise when it was served."""
    MISSING = "row missing online"
    """A row that the store had consumed, and that was known, is not in the answer."""
    EXTRA = "row extra online"
    """A row counts twice, or was not known yet, or is outside the window."""
    RULE = "ttl or default"
    """The same row, and another idea of when it is too old, or of what stands for null."""
    VALUE = "other value of the same rows"
    """The transform or the aggregate gives something else."""
    STALE = "stale"
    """The store had not consumed a row that was known: freshness, not a difference."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The first cause of a difference.

    Attributes:
        kind: what sort of cause.
        text: one sentence for people.
        partition: of the source row that makes the difference, where one does; `offset`: likewise.
    """

    kind: Kind
    text: str
    partition: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The vectors in which one feature differs, or is behind.

    Attributes:
        feature: the full name.
        vectors: in how many vectors.
        first_id: the first of them, by time; `at`: its time; `entity`: what it asked about.
        served: the value that was served; `recomputed`: the one that is made anew.
        cause: the first cause.
    """

    view: str
    feature: str
    vectors: int
    first_id: str
    at: datetime
    entity: Mapping[str, Any]
    served: Any
    recomputed: Any
    cause: Cause


@dataclass(frozen=True, slots=True)
class ParityReport:
    """The outcome of a proof.

    Attributes:
        vectors: how many were compared; `values`: how many feature values they have.
        identical: vectors that are what could be known at their time, to the bit.
        lagging: vectors that are identical to what the store had consumed, but more was known.
        different: vectors with a value that cannot be explained by what the store had consumed.
        unproven: vectors whose source snapshots are gone, by view.
        mismatches: by feature, in how many vectors it differs.
        findings: one a feature that differs.
        stale: one a feature that is behind.
    """

    vectors: int
    values: int
    identical: int
    lagging: int
    different: int
    unproven: Mapping[str, int] = field(default_factory=dict)
    mismatches: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    stale: tuple[Finding, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether every vector could be compared and none differs."""
        return self.different == 0 and not self.unproven
