"""A passport as a tree of typed nodes.

Knows the shape of a passport and its JSON; it does not know how anything is found out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

State = Literal["established", "unknown", "broken"]


@dataclass(frozen=True, slots=True)
class Node:
    """One link of the chain from a prediction to its sources.

    Attributes:
        kind: `prediction`, `request`, `features`, `source event`, `endpoint`, `model version`, `alias`,
            `artifact`, `run`, `training set`, `snapshot`, `offsets` or `audit log`.
        title: what it is, in a few words.
        facts: name -> value, JSON values only.
        state: `established` from what is stored; `unknown` where the records do not tell (the fact
            `not established` says why); `broken` where they contradict each other (`broken` says how).
    """

    kind: str
    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    children: tuple["Node", ...] = ()
    state: State = "established"

    def walk(self) -> Iterator["Node"]:
        """This node and all below it, from the top down."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Passport:
    """Where a prediction came from. `root` is the prediction itself."""

    prediction_id: str
    root: Node

    @property
    def whole(self) -> bool:
        """Whether every link is established."""
        return all(node.state == "established" for node in self.root.walk())

    def to_json(self) -> str:
        """The whole tree as JSON text."""
        whole = {"prediction_id": self.prediction_id, "whole": self.whole, "root": _plain(self.root)}
        return orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode()


def unknown(kind: str, title: str, why: str, facts: Mapping[str, Any] | None = None) -> Node:
    """A link that the records do not tell."""
    return Node(kind, title, {**(facts or {}), "not established": why}, (), "unknown")


def broken(kind: str, title: str, how: str, facts: Mapping[str, Any] | None = None) -> Node:
    """A link where the records contradict each other or stored bytes are not what was written."""
    return Node(kind, title, {**(facts or {}), "broken": how}, (), "broken")


def _plain(node: Node) -> dict[str, Any]:
    return {
        "kind": node.kind,
        "title": node.title,
        "state": node.state,
        "facts": dict(node.facts),
        "children": [_plain(child) for child in node.children],
    }
