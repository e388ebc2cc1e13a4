"""A policy document: what it is for, its body, and the command that puts it into force.

Knows the shape; it does not know a cloud.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """One document.

    Attributes:
        name: the role, account or group that it is for.
        purpose: what it allows, in a sentence.
        body: the document as the cloud takes it.
        commands: how it is put into force; `FILE` stands for the file that holds the body.
    """

    name: str
    purpose: str
    body: Mapping[str, Any]
    commands: tuple[str, ...] = field(default=())
