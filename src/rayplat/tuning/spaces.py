"""A space as it is recorded with its study, and in what two of them differ.

Knows the kinds of dimensions as plain data; it does not know what is searched.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rayplat.core.project.space import Space


def described(space: Space) -> dict[str, Any]:
    """By dimension its kind and its limits, as JSON gives them back."""
    told = {name: {"kind": type(d).__name__, **asdict(d)} for name, d in space.dimensions.items()}
    plain: dict[str, Any] = json.loads(json.dumps(told))
    return plain


def differences(kept: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """In words, dimension by dimension, what is not the same."""
    found = []
    for name in dict.fromkeys([*kept, *given]):
        if name not in given:
            found.append(f"{name} is gone")
        elif name not in kept:
            found.append(f"{name} is new")
        else:
            changed = [
                k
                for k in dict.fromkeys([*kept[name], *given[name]])
                if kept[name].get(k) != given[name].get(k)
            ]
            found += [f"{name}.{k} was {kept[name].get(k)} and is {given[name].get(k)}" for k in changed]
    return "; ".join(found)
