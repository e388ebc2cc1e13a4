"""The faults of a cluster file, each with its line, its column, the value seen and the mend.

Knows how pydantic's faults and the broken rules are worded and placed; it does not know how the file
was read.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from rayplat.cluster.spec.cluster import ClusterSpec
from rayplat.cluster.spec.places import Keys, Places
from rayplat.core.errors import UserError
from rayplat.core.secrets import masked


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key of a cluster file stands: line and column from 1, and the keys that lead there."""

    file: str
    line: int
    column: int
    key: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.key}"


@dataclass(frozen=True, slots=True)
class SpecFault:
    """One thing wrong with a cluster file."""

    where: KeyPlace
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}\n    mend: {self.mend}"


class SpecError(UserError):
    """A cluster file that says what it may not, with every fault that was found.

    Args:
        file: the file as it was named.
        faults: at least one fault, in the order of the file.
    """

    def __init__(self, file: str, faults: Iterable[SpecFault]) -> None:
        self.file = file
        self.faults = tuple(faults)
        count = len(self.faults)
        super().__init__(f"{file} has {count} fault{'s' if count != 1 else ''}")

    def __reduce__(self) -> tuple[type["SpecError"], tuple[str, tuple[SpecFault, ...]]]:
        return type(self), (self.file, self.faults)

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {fault}" for fault in self.faults)])


def faults_of(file: str, error: ValidationError, raw: Any, places: Places) -> list[SpecFault]:
    """Every fault of one validation, in the order that pydantic found them."""
    found = []
    for one in error.errors(include_url=False):
        context = one.get("ctx", {})
        if one["type"] == "breaches":
            parts = [(breach.at, breach.what, breach.mend, False) for breach in context["breaches"]]
        elif one["type"] == "together":
            parts = [((*one["loc"], key), what, mend, False) for key, what, mend in context["faults"]]
        else:
            keys = _in_file(one["loc"])
            parts = [(keys, *_worded(one, keys, raw), one["type"] == "extra_forbidden")]
        for keys, what, mend, at_key in parts:
            place = places.of(keys, key=at_key)
            name = ".".join(map(str, keys)) or "(file)"
            found.append(SpecFault(KeyPlace(file, place.line, place.column, name), what, mend))
    return found


def _in_file(loc: Keys) -> Keys:
    # A fault of a mapping's key itself is told as (…, key, '[key]').
    return loc[:-1] if loc and loc[-1] == "[key]" else loc


def _worded(one: Any, keys: Keys, raw: Any) -> tuple[str, str]:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "refused":
        return context["text"], context["mend"]
    if kind == "extra_forbidden":
        return _unknown(keys)
    if kind == "missing":
        return "is missing", f"add `{keys[-1]}: …`{_about(keys)}"
    seen = masked(str(keys[-1]) if keys else "", _at(raw, keys))
    if one["loc"] and one["loc"][-1] == "[key]":
        seen = keys[-1]
    message = one["msg"][0].lower() + one["msg"][1:]
    return f"{_short(seen)} is refused: {message}", _mend(kind, context) + _about(keys)


def _mend(kind: str, context: dict[str, Any]) -> str:
    bounds = {
        "greater_than": ("gt", "more than"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "less than"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in bounds:
        key, words = bounds[kind]
        return f"give {words} {context[key]:g}"
    if kind == "literal_error":
        return f"give {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"write what matches {context['pattern']}"
    return f"give {_KINDS.get(kind, 'a value of the right type')}"


_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (in quotes, if it looks like a number)",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "one item at least",
}


def _unknown(keys: Keys) -> tuple[str, str]:
    model = _model_at(keys[:-1])
    known = sorted(model.model_fields) if model else []
    close = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.6)
    mend = f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(known)}"
    return "there is no such key", mend


def _about(keys: Keys) -> str:
    model = _model_at(keys[:-1])
    field = model.model_fields.get(str(keys[-1])) if model and keys else None
    return f" ({field.description})" if field and field.description else ""


def _model_at(keys: Keys) -> type[BaseModel] | None:
    """The model whose keys stand under `keys`."""
    kind: Any = ClusterSpec
    for key in keys:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(key))
            kind = field.annotation if field else None
        else:  # a mapping's value, or a list's item
            kind = get_args(kind)[-1] if get_args(kind) else None
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _at(raw: Any, keys: Keys) -> Any:
    for key in keys:
        try:
            raw = raw[key]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
