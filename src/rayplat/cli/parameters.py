"""The arguments that several commands take, and how their text is read.

Knows projects, times and `key=value`; it does not know a command.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from rayplat.core.errors import NotFoundError, UserError
from rayplat.core.project.model import Model
from rayplat.core.project.project import Project
from rayplat.core.project.table import Column

ProjectAddress = Annotated[
    str,
    typer.Argument(metavar="PROJECT", help="A folder, a .py file, or package.module.", show_default=False),
]
ModelName = Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Needed where there are several.")]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="As of this time, ISO 8601; now if not given.")
]

_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


def chosen_model(project: Project, name: str | None) -> Model:
    """The model of a project that a command is about: the named one, or the only one.

    Raises:
        NotFoundError: there is none of this name, or, without a name, not exactly one.
    """
    found = project.models if name is None else [m for m in project.models if m.name == name]
    if len(found) == 1:
        return found[0]
    known = ", ".join(m.name for m in project.models) or "none"
    what = f"the project has no model {name!r}" if name else "the project has not exactly one model"
    raise NotFoundError(what, f"name one of: {known}")


def parse_time(text: str | None) -> datetime:
    """A time in UTC; now where no text is given, and UTC where it names no zone.

    Raises:
        UserError: the text is no ISO 8601 time.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"{text!r} is no time", "write ISO 8601: 2013-09-01T10:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def parse_values(pairs: Sequence[str], columns: dict[str, Column]) -> dict[str, Any]:
    """`key=value` texts as values of the columns' types.

    Raises:
        UserError: a pair without `=`, an unknown column, or a text that does not fit its type.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"{pair!r} is not key=value", "write for example origin=JFK")
        if name not in columns:
            raise UserError(f"there is no column {name!r}", f"there is: {', '.join(columns)}")
        values[name] = _value(name, text, columns[name].type)
    return values


def _value(name: str, text: str, kind: str) -> Any:
    if text == "":
        return None
    try:
        if kind == "timestamp":
            return parse_time(text)
        if kind == "bool":
            return _boolean(text)
        return {"int64": int, "float64": float}.get(kind, str)(text)
    except (ValueError, UserError):
        raise UserError(f"{name}={text!r} is no {kind}", f"give a value of type {kind}") from None


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError(text)
