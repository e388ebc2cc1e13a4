"""The entry point `rayplat`: global options, the lazy nouns, and the exit code.

Knows the root command alone; each noun is a file beside this one.
"""

import typer

from rayplat.cli.command import EXIT_CODES, Call, Home, Output, Set, Verbose
from rayplat.cli.lazy import LazyGroup
from rayplat.cli.output import Format, show_error
from rayplat.core.errors import UserError

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    cls=LazyGroup,
    name="rayplat",
    help="The AI infrastructure platform on Ray: from events on a topic to predictions that can be traced.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def root(
    ctx: typer.Context, home: Home = None, set_: Set = None, output: Output = None, verbose: Verbose = False
) -> None:
    """Global options may stand before or after the command; the later one wins."""
    call = Call()
    try:
        call.merge(home, set_, output, verbose)
    except UserError as error:
        show_error(output or Format.TEXT, error)
        raise typer.Exit(error.exit_code) from None
    ctx.obj = call


def main() -> None:
    """Run the command line."""
    app(prog_name="rayplat")
