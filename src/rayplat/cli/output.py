"""What a command says: one value as JSON, or the same value for people; errors with their mend.

Knows the two forms; it does not know what a command did. Answers go to stdout, all else to stderr.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from rayplat.core.errors import RayplatError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDE = 200  # columns of a text that no terminal shows: a pipe must not get wrapped cells


class Format(StrEnum):
    """The forms of an answer."""

    TEXT = "text"
    JSON = "json"


def console(*, stderr: bool = False) -> "Console":
    """A Rich console on stdout or stderr; wide where no terminal bounds it."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDE)


def show(form: Format, data: Any, text: "Callable[[], RenderableType]") -> None:
    """Print one answer.

    Args:
        form: JSON prints `data` on one line; text prints what `text` returns.
        data: dataclasses, pydantic models, mappings, sequences, times and plain values.
    """
    if form is Format.JSON:
        sys.stdout.write(to_json(data) + "\n")
        sys.stdout.flush()
    else:
        console().print(text())


def to_json(data: Any) -> str:
    """One line of JSON. Times are ISO 8601 text, lengths of time are seconds, nan and inf are null."""
    return json.dumps(plain(data), ensure_ascii=False, allow_nan=False)


def plain(data: Any) -> Any:
    """`data` made of dicts, lists, text, numbers, booleans and None alone."""
    if data is None or isinstance(data, str | bool | int | float):
        return _plain_scalar(data)
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = vars_of(data)
    if isinstance(data, Mapping):
        return {str(plain(key)): plain(value) for key, value in data.items()}
    for kind, convert in _PLAIN:
        if isinstance(data, kind):
            return convert(data)
    return _plain_object(data)


_PLAIN: list[tuple[Any, Callable[[Any], Any]]] = [
    (date, lambda value: value.isoformat()),  # a datetime is a date
    (timedelta, lambda value: value.total_seconds()),
    (PurePath, str),
    (bytes, lambda value: value.decode("utf-8", "replace")),
]


def _plain_scalar(data: Any) -> Any:
    if isinstance(data, Enum):
        return data.value
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _plain_object(data: Any) -> Any:
    if hasattr(data, "model_dump"):
        return plain(data.model_dump(mode="python"))
    if hasattr(data, "item"):  # a numpy scalar
        return plain(data.item())
    return [plain(item) for item in data] if isinstance(data, Iterable) else str(data)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> "RenderableType":
    """A table for people; an empty one says so."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    found = [[cell(value) for value in row] for row in rows]
    if not found:
        return Text(f"{title}: none" if title else "none")
    shown = Table(*columns, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in found:
        shown.add_row(*[Text(value) for value in row])
    return shown


def fields(values: Mapping[str, Any]) -> "RenderableType":
    """Names and values, one a line."""
    from rich.table import Table
    from rich.text import Text

    shown = Table.grid(padding=(0, 2))
    for name, value in values.items():
        shown.add_row(Text(name, style="bold"), Text(cell(value)))
    return shown


def cell(value: Any) -> str:
    """A value as a person reads it in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(item) for item in value) or "-"
    return str(value)


def show_error(form: Format, error: RayplatError) -> None:
    """Print an error to stderr: what happened and how to mend it, with every fault of a project or file."""
    faults = [fault for fault in getattr(error, "faults", ()) if hasattr(fault, "where")]
    if form is Format.JSON:
        described = {
            "kind": type(error).__name__,
            "what": error.what,
            "mend": error.mend,
            "exit_code": error.exit_code,
            "faults": [_plain_fault(fault) for fault in faults],
        }
        sys.stderr.write(json.dumps({"error": described}, ensure_ascii=False) + "\n")
        return
    from rich.text import Text

    out = console(stderr=True)
    out.print(Text.assemble(("error: ", "bold red"), error.what), soft_wrap=True)
    for fault in faults:
        out.print(
            Text.assemble("  ", (f"{fault.where or '(project)'}", "cyan"), f": {fault.what}"), soft_wrap=True
        )
        out.print(Text.assemble(("    mend: ", "green"), fault.mend), soft_wrap=True)
    if error.mend:
        out.print(Text.assemble(("  mend: ", "green"), error.mend), soft_wrap=True)


def _plain_fault(fault: Any) -> dict[str, Any]:
    where = fault.where
    return {
        "file": where.file if where else None,
        "line": where.line if where else None,
        **{name: getattr(where, name) for name in ("column", "key") if hasattr(where, name)},
        "what": fault.what,
        "mend": fault.mend,
    }


def listing(items: Sequence[Any], columns: Sequence[str] | None = None, title: str = "") -> "RenderableType":
    """A table of dataclasses or mappings; a row each, a column a field."""
    found = [vars_of(item) for item in items]
    names = list(columns or (found[0] if found else ()))
    return table(names, [[row.get(name) for name in names] for row in found], title)


def vars_of(item: Any) -> dict[str, Any]:
    """The fields of a dataclass or a mapping, by name, in order; values as they are."""
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return dict(item)
