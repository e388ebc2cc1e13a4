"""The faults of a project, gathered so that all of them can be told at once.

Knows how a fault is worded (a wrong type, an unknown name with its closest match, a double name);
it does not know what a table, a view or a model must be.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

from rayplat.core.errors import Fault, Where

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Faults:
    """Collects faults; each method that checks returns whether the value is good."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, where: Where | None, what: str, mend: str) -> None:
        """Note one fault."""
        self.found.append(Fault(where, what, mend))

    def expect(
        self, where: Where | None, subject: str, value: Any, kind: type | tuple[type, ...], wanted: str
    ) -> bool:
        """Note a fault unless `value` is a `kind` (a bool is no number here)."""
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
            return True
        self.add(where, f"{subject} is {short(value)}, not {wanted}", f"give {wanted}")
        return False

    def name(self, where: Where | None, subject: str, value: Any, pattern: re.Pattern[str] = _NAME) -> bool:
        """Note a fault unless `value` is a name: (lower case) letters, digits and underscores."""
        if not self.expect(where, f"the name of {subject}", value, str, "text"):
            return False
        if pattern.fullmatch(value):
            return True
        letters = "lower case letters" if pattern is _NAME else "letters"
        mend = f"start with a letter; use {letters}, digits and underscores"
        self.add(where, f"{value!r} is no name for {subject}", mend)
        return False

    def known(self, where: Where | None, subject: str, value: Any, names: Iterable[str]) -> bool:
        """Note a fault unless `value` is among `names`; the closest one is suggested."""
        names = [name for name in names if isinstance(name, str)]
        if isinstance(value, str) and value in names:
            return True
        close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
        there = ", ".join(sorted(names)[:12]) + (", …" if len(names) > 12 else "")
        mend = f"did you mean {close[0]!r}?" if close else f"there is: {there or 'none'}"
        self.add(where, f"{subject} {short(value)} does not exist", mend)
        return False

    def unique(self, subject: str, named: Iterable[tuple[Any, Where | None]]) -> None:
        """Note a fault for each name that was given before."""
        first: dict[str, Where | None] = {}
        for name, where in named:
            if not isinstance(name, str):
                continue
            if name in first:
                self.add(where, f"there are two {subject}s named {name!r}", f"the first is at {first[name]}")
            first.setdefault(name, where)

    def takes(self, where: Where | None, subject: str, function: Any, arguments: int) -> bool:
        """Note a fault unless `function` can be called with so many positional arguments."""
        if not self.expect(where, subject, function, Callable, "a function"):  # type: ignore[arg-type]
            return False
        try:
            inspect.signature(function).bind(*[None] * arguments)
        except TypeError:
            wanted = "no argument" if arguments == 0 else f"{arguments} argument{'s'[: arguments - 1]}"
            signature = f"{getattr(function, '__name__', 'it')}{inspect.signature(function)}"
            self.add(
                where, f"{subject} cannot be called with {wanted}: {signature}", "correct its parameters"
            )
            return False
        except ValueError:  # a builtin without a signature: the call itself will tell
            return True
        return True


def short(value: Any) -> str:
    """A value as it is shown in a fault: its repr on one line, cut at 60 characters."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        # A user's object may fail in its own repr; the fault must still be told.
        text = f"<{type(value).__name__}, whose repr fails: {error}>"
    return text if len(text) <= 60 else f"{text[:57]}…"
