"""`rayplat audit`: who did what, and whether the log is whole.

Knows how entries are shown; it does not know how the chain is kept.
"""

from typing import Annotated

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, listing

app = group("The log of who did what; verify that nobody edited it.")


@command(app, "list")
def list_entries(
    call: Call,
    action: Annotated[str | None, typer.Option(help="Only this action, such as alias.moved.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what was done to this.")] = None,
    last: Annotated[int, typer.Option(help="How many, counted from the end.", min=1)] = 50,
) -> None:
    """List the entries, oldest first."""
    found = call.platform().audit.entries(action, subject)[-last:]
    call.show(found, lambda: listing(found, ["seq", "at", "actor", "action", "subject", "details"], "audit"))


@command(app)
def verify(call: Call) -> None:
    """Walk the whole hash chain; a changed, missing or added entry ends with exit code 6."""
    audit = call.platform().audit
    found = {"verified": audit.verify(), "head": audit.head()}
    call.show(found, lambda: fields({"entries verified": found["verified"], "head": audit.head().hash}))
