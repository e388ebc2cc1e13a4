"""How a command is declared and run: the global options, the settings, errors and exit codes.

Knows what all commands share; it does not know what one does. A command is a function whose first
parameter is a `Call`; `command` gives it `--home`, `--set`, `--output` and `--verbose`.
"""

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.output import Format, show, show_error
from rayplat.core.errors import BugError, RayplatError, UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rayplat.core.project.project import Project
    from rayplat.core.settings import Settings
    from rayplat.wiring import Platform

EXIT_CODES = {
    0: "done",
    1: "failed, or a check did not pass",
    2: "the input, the project or the settings are at fault",
    3: "not found",
    4: "somebody else changed the same state first: a retry is safe",
    5: "a part of the platform does not answer",
    6: "stored bytes are not what was written",
    70: "a bug in rayplat",
}
"""What each exit code means; the errors in `rayplat.core.errors` carry them."""

_HOME = typer.Option("--home", help="Folder of the embedded platform.", show_default=False)
_SET = typer.Option(
    "--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.", show_default=False
)
_OUTPUT = typer.Option("--output", "-o", help="Form of the answer.", show_default="text")
_VERBOSE = typer.Option(
    "--verbose", "-v", help="Log more, and show the trace of an error.", show_default=False
)

Home = Annotated[Path | None, _HOME]
Set = Annotated[list[str] | None, _SET]
Output = Annotated[Format | None, _OUTPUT]
Verbose = Annotated[bool, _VERBOSE]


@dataclass(slots=True)
class Call:
    """One run of a command: what was asked of all commands, and how it answers."""

    flags: dict[str, Any] = field(default_factory=dict)
    form: Format = Format.TEXT
    verbose: bool = False

    def merge(self, home: Path | None, sets: list[str] | None, output: Format | None, verbose: bool) -> None:
        """Take global options in; the later ones win.

        Raises:
            UserError: a `--set` that is not KEY=VALUE.
        """
        if home is not None:
            self.flags["home"] = str(home)
        for text in sets or []:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise UserError(f"--set {text!r} is not KEY=VALUE", "write --set serve.port=8001")
            self.flags[key.strip()] = value
        self.form = output or self.form
        self.verbose = self.verbose or verbose

    def settings(self) -> "Settings":
        """The settings of this call; logging is configured by them.

        Raises:
            UserError: as `load_settings` does.
        """
        from rayplat.core.settings_sources import load_settings
        from rayplat.core.telemetry import configure_logging

        settings = load_settings(self.flags)
        level = {"level": "DEBUG"} if self.verbose else {}
        configure_logging(settings.log.model_copy(update=level))
        return settings

    def platform(self) -> "Platform":
        """The parts of the platform that the settings name."""
        from rayplat.wiring import build_platform

        return build_platform(self.settings())

    def connected(self) -> "Platform":
        """The parts, with this process connected to the platform's Ray.

        Raises:
            UnavailableError: no Ray of this platform runs.
        """
        from rayplat.cluster.session import connect

        platform = self.platform()
        connect(platform.settings)
        return platform

    def project(self, address: str) -> "Project":
        """The validated project at an address.

        Raises:
            ProjectError: with every fault.
        """
        from rayplat.core.project.load import load_project

        return load_project(address)

    def show(self, data: Any, text: "Callable[[], RenderableType]") -> None:
        """Print the command's answer in the form that was asked for."""
        show(self.form, data, text)

    def note(self, line: str) -> None:
        """Tell something on stderr that is not part of the answer; silent for JSON."""
        if self.form is Format.TEXT:
            sys.stderr.write(line + "\n")


def group(help: str) -> typer.Typer:  # noqa: A002  # as Typer names it
    """A noun with several verbs."""
    app = typer.Typer(help=help, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    return app


def single() -> typer.Typer:
    """A file with commands that have no noun."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def command(
    app: typer.Typer, name: str | None = None, **options: Any
) -> Callable[[Callable[..., None]], Any]:
    """Declare a command on `app`; the function's first parameter is the `Call`, the rest are Typer's."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in list(signature.parameters.values())[1:]
        ]

        @functools.wraps(function)
        def run(
            ctx: typer.Context,
            home: Path | None,
            set_: list[str] | None,
            output: Format | None,
            verbose: bool,
            **arguments: Any,
        ) -> None:
            call = ctx.find_root().obj or Call()
            _guarded(call, lambda: call.merge(home, set_, output, verbose))
            _guarded(call, lambda: function(call, **arguments))

        run.__signature__ = inspect.Signature([*_context(), *own, *_shared()])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*_context(), *own, *_shared())}
        app.command(name, **options)(run)
        return function

    return declare


def _context() -> list[inspect.Parameter]:
    return [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]


def _shared() -> list[inspect.Parameter]:
    kinds: list[tuple[str, Any, Any]] = [
        ("home", None, Home),
        ("set_", None, Set),
        ("output", None, Output),
        ("verbose", False, Verbose),
    ]
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, default, kind in kinds
    ]


def _guarded(call: Call, work: Callable[[], None]) -> None:
    try:
        work()
    except RayplatError as error:
        if call.verbose:
            traceback.print_exc()
        show_error(call.form, error)
        raise typer.Exit(error.exit_code) from None
    except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
        raise
    except OSError as error:
        # A folder that cannot be written or a full disk is no bug of ours.
        if call.verbose:
            traceback.print_exc()
        place = f": {error.filename}" if error.filename else ""
        told = RayplatError(
            f"{error.strerror or error}{place}", "mend that place; `rayplat doctor` checks more"
        )
        show_error(call.form, told)
        raise typer.Exit(told.exit_code) from None
    except Exception as error:
        # Whatever was not foreseen is a bug: say so, with the trace that a report needs.
        traceback.print_exc()
        bug = BugError(f"{type(error).__name__}: {error}", "please report it, with the trace above")
        show_error(call.form, bug)
        raise typer.Exit(bug.exit_code) from None
