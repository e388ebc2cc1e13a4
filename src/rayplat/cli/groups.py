"""Groups of commands with one that is meant where none is named.

Knows the order of words on the command line; it does not know a command.
"""

from typing import Any

from typer.core import TyperGroup


class RunByDefault(TyperGroup):
    """`rayplat NOUN PROJECT` means `rayplat NOUN run PROJECT`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` in front where no other verb is."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed
