"""What differs between two descriptions of a view, told for people.

Knows the parts of a description; it does not know which of the two is in use.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

_PARTS = ("kind", "name", "as", "entity", "join_keys", "ttl_us", "defaults")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The differences between two results of `definition.describe_as_asked`, one a line; empty if none."""
    found = [
        f"{_called(part)}: {_shown(part, before.get(part))} -> {_shown(part, after.get(part))}"
        for part in _PARTS
        if before.get(part) != after.get(part)
    ]
    found += _of_source(before["source"] or {}, after["source"] or {})
    found += _of_features(before["features"], after["features"])
    old, new = ({one.get("as", one["name"]): one for one in d.get("views", ())} for d in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new:
            found.append(f"made of view {name!r}: {'not before' if name in new else 'no more'}")
        else:
            found += [f"view {name!r}: {line}" for line in differences(old[name], new[name])]
    return tuple(found)


def _of_source(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = [
        f"source's {part}: {before.get(part)} -> {after.get(part)}"
        for part in ("name", "event_time", "known_at")
        if before.get(part) != after.get(part)
    ]
    old, new = before.get("types", {}), after.get("types", {})
    changed = [c for c in sorted(old.keys() & new.keys()) if old[c] != new[c]]
    return found + [f"source's column {c!r}: {old[c]} -> {new[c]}" for c in changed]


def _of_features(before: list[Mapping[str, Any]], after: list[Mapping[str, Any]]) -> list[str]:
    old, new = ({told["name"]: told for told in told_all} for told_all in (before, after))
    found = [f"feature {name!r}: removed" for name in old if name not in new]
    found += [f"feature {name!r}: new" for name in new if name not in old]
    for name in (n for n in new if n in old and old[n] != new[n]):
        parts = sorted(p for p in old[name].keys() | new[name].keys() if old[name].get(p) != new[name].get(p))
        told = (
            f"{_called(part)} {_shown(part, old[name].get(part))} -> {_shown(part, new[name].get(part))}"
            for part in parts
            if part not in ("expr", "where", "python")
        )
        code = ("its code" for part in parts if part == "python")
        expression = ("its expression" for part in parts if part == "expr")
        filters = ("its filter" for part in parts if part == "where")
        found.append(f"feature {name!r}: {', '.join([*told, *expression, *filters, *code])} changed")
    if list(old) != list(new) and old.keys() == new.keys():
        found.append("the order of the features changed")
    return found


def _called(part: str) -> str:
    return {"ttl_us": "ttl", "window_us": "window", "every_us": "every", "as": "asked as"}.get(part, part)


def _shown(part: str, value: Any) -> str:
    if part.endswith("_us") and isinstance(value, int):
        return str(timedelta(microseconds=value))
    return "none" if value is None else str(value)
