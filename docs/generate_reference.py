"""Write docs/reference/cli.md and settings.md from the code.

Run: make docs   (or: .venv/bin/python docs/generate_reference.py [FOLDER])
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rayplat.cli.command import EXIT_CODES
from rayplat.cli.lazy import NOUNS, load_noun
from rayplat.cluster.spec import ClusterSpec
from rayplat.core.settings import Settings

_SHARED = ("--home", "--set", "--output", "--verbose", "--help")
_COMPUTED = {
    "home": "`.rayplat` in the working folder",
    "warehouse": "`file://<home>/warehouse`",
    "database": "`sqlite:///<home>/rayplat.db`",
    "online": "`lmdb:///<home>/online`",
    "user": "the user of the operating system",
}


def cli_page() -> str:
    """Every command with its arguments, options and defaults, and the exit codes."""
    lines = [
        "# Command line",
        "",
        "Written by `make docs` from the code. Every command takes these options, before or after its name:",
        "",
        *_table(["option", "meaning"], _shared_options()),
        "",
        "An answer goes to stdout (`--output json`: one line of JSON); progress, logs and errors to stderr.",
        "",
        *_table(["exit code", "meaning"], [[str(code), text] for code, text in EXIT_CODES.items()]),
        "",
    ]
    for noun, entry in NOUNS.items():
        found = load_noun(noun)
        lines += [f"## rayplat {noun}", "", *([entry.help, ""] if hasattr(found, "commands") else [])]
        for path, verb in _verbs(f"rayplat {noun}", found):
            lines += _command(path, verb, heading=path != f"rayplat {noun}")
    return "\n".join(lines).rstrip() + "\n"


def _verbs(path: str, found: Any) -> Iterator[tuple[str, Any]]:
    verbs = getattr(found, "commands", None)
    if verbs is None:
        yield path, found
    for name, verb in (verbs or {}).items():
        yield from _verbs(f"{path} {name}", verb)


def _shared_options() -> list[list[str]]:
    verb = load_noun("version")
    return [_row(p)[:1] + _row(p)[-1:] for p in verb.params if p.opts[0] in _SHARED and p.opts[0] != "--help"]


def _command(path: str, verb: Any, *, heading: bool) -> list[str]:
    own = [p for p in verb.params if p.opts[0] not in _SHARED and p.name != "ctx"]
    arguments = " ".join(_metavar(p) for p in own if p.param_type_name == "argument")
    lines = [f"### {path}", ""] if heading else []
    lines += ["```", f"{path} {arguments}".rstrip() + (" [OPTIONS]" if own else ""), "```", ""]
    lines += [" ".join((verb.help or "").split()), ""]
    if own:
        lines += [*_table(["argument or option", "default", "meaning"], [_row(p) for p in own]), ""]
    return lines


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.upper()


def _row(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        name = f"`{_metavar(parameter)}`"
    else:
        name = ", ".join(f"`{option}`" for option in parameter.opts)
    default = parameter.default
    shown = "required" if parameter.required else ("" if default in (None, False, ()) else f"`{default}`")
    return [name, shown, (getattr(parameter, "help", "") or "").replace("|", "\\|")]


def settings_page() -> str:
    """Every setting with its type, default and meaning."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from the code. A setting is taken from the first of these that names it:",
        "",
        "1. a flag: `--set serve.port=8001` (and `--home`),",
        "2. the environment: `RAYPLAT_SERVE__PORT=8001`,",
        "3. `rayplat.toml` in the working folder or the nearest folder above; relative paths are against it,",
        "4. the default.",
        "",
        "A value that is present wins whatever it is: `0` and an empty text override. `rayplat config show`",
        "prints each value and where it came from. An unknown name is an error, in every source.",
        "",
        *_table(["setting", "default", "meaning"], _settings(Settings, "")),
        "",
        "## The cluster file",
        "",
        "`cluster/platform.yaml`, or where `ray.spec` says. A file that is not there means the defaults.",
        "",
        *_table(["entry", "default", "meaning"], _settings(ClusterSpec, "")),
    ]
    return "\n".join(lines) + "\n"


def _settings(part: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    for name, info in part.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _settings(kind, f"{prefix}{name}.")
        else:
            key = prefix + name
            default = _COMPUTED.get(key) or f"`{str(info.default)!r}`".replace("'", '"')
            if not isinstance(info.default, str) and key not in _COMPUTED:
                default = f"`{info.default}`"
            yield [f"`{key}`", default, (info.description or "").replace("|", "\\|")]


def _table(columns: list[str], rows: Any) -> list[str]:
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return head + ["| " + " | ".join(row) + " |" for row in rows]


def write(folder: Path) -> None:
    """Write both pages into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cli.md").write_text(cli_page())
    (folder / "settings.md").write_text(settings_page())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "reference")
