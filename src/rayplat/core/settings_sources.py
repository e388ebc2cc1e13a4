"""Where settings come from: defaults < rayplat.toml < environment < flags, and which one won.

Knows how each source is read, merged and named; it does not know what a setting means. A value
that is present wins over a lower source whatever it is: `0`, `false` and an empty text override.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from rayplat.core.errors import UserError
from rayplat.core.secrets import masked
from rayplat.core.settings import Settings, absolute_address

FILE = "rayplat.toml"
PREFIX = "RAYPLAT_"
_ADDRESSES = ("warehouse", "database", "online")
_PATHS = ("home", "ray.spec")
# The marker by which a platform finds its own processes; every process that it starts carries it.
_NO_SETTINGS = frozenset({"RAYPLAT_PLATFORM"})


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting as it came out: its dotted key, its value (secrets masked) and its source."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any
    source: str


def load_settings(flags: Mapping[str, Any] | None = None, cwd: Path | None = None) -> Settings:
    """The settings for a process that runs in `cwd`.

    Args:
        flags: dotted key to value, such as `{"serve.port": 0}`; a key that is present wins.
        cwd: the folder in which, or in a parent of which, `rayplat.toml` is looked for.

    Raises:
        UserError: an unknown key or a wrong value, in any source; all of them are named.
    """
    given = _given(flags or {}, cwd or Path.cwd())
    return _validated(given)


def explain(flags: Mapping[str, Any] | None = None, cwd: Path | None = None) -> list[Explained]:
    """Every setting, sorted by key, with its value and the source that decided it.

    A source reads as `default`, `rayplat.toml:3 /path/rayplat.toml`, `environment RAYPLAT_HOME`
    or `flag --serve.port`.

    Raises:
        UserError: as `load_settings` does.
    """
    given = _given(flags or {}, cwd or Path.cwd())
    settings = _validated(given)
    explained = []
    for key, kind in _leaves(Settings):
        value = _at(settings, key)
        if kind == "options":
            explained += [_explained(f"{key}.{k}", v, given) for k, v in sorted(value.items())]
            if value:
                continue
        explained.append(_explained(key, value, given))
    return explained


def settings_keys() -> list[str]:
    """Every dotted key, sorted; a key that takes further names ends in `.*`."""
    return [f"{key}.*" if kind == "options" else key for key, kind in _leaves(Settings)]


def _explained(key: str, value: Any, given: Mapping[str, _Given]) -> Explained:
    source = given[key].source if key in given else "default"
    shown = str(value) if isinstance(value, Path) else value
    return Explained(key, masked(key, shown), source)


def _at(settings: BaseModel, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _leaves(part: type[BaseModel], prefix: str = "") -> list[tuple[str, str]]:
    """(dotted key, 'options' for a free mapping, else 'value') of every setting, sorted."""
    found: list[tuple[str, str]] = []
    for name, info in part.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _leaves(kind, f"{prefix}{name}.")
        else:
            found.append((prefix + name, "options" if get_origin(kind) is dict else "value"))
    return sorted(found)


def _given(flags: Mapping[str, Any], cwd: Path) -> dict[str, _Given]:
    merged: dict[str, _Given] = {}
    faults: list[str] = []
    for layer in (_from_file(cwd), _from_environment(), _from_flags(flags)):
        for key, given in layer:
            fault = _unknown(key, given.source)
            if fault:
                faults.append(fault)
            merged[key] = given
    if faults:
        raise UserError(
            "; ".join(faults), "correct or remove it; `rayplat config show` prints every key there is"
        )
    return merged


def _unknown(key: str, source: str) -> str:
    leaves = dict(_leaves(Settings))
    if leaves.get(key) == "value" or any(
        kind == "options" and key.startswith(f"{name}.") for name, kind in leaves.items()
    ):
        return ""
    close = difflib.get_close_matches(key, leaves, n=1, cutoff=0.5)
    hint = f", did you mean {close[0]!r}?" if close else ""
    inside = [name for name in leaves if name.startswith(f"{key}.")]
    if inside:
        return f"{key!r} is a group of settings, not one ({source}): set {inside[0]!r}"
    return f"there is no setting {key!r} ({source}){hint}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _from_flags(flags: Mapping[str, Any]) -> list[tuple[str, _Given]]:
    return [(key, _Given(value, f"flag --{key}")) for key, value in _flat(flags)]


def _from_environment() -> list[tuple[str, _Given]]:
    """`RAYPLAT_KAFKA__BOOTSTRAP` is `kafka.bootstrap`; a free mapping is given as JSON."""
    from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

    class Sourced(BaseSettings, Settings):  # type: ignore[misc]  # model_config is the wider TypedDict
        """The fields of Settings in the form that the environment source reads."""

    source = EnvSettingsSource(Sourced, env_prefix=PREFIX, env_nested_delimiter="__")
    try:
        values = dict(_flat(source()))
    except SettingsError as error:
        raise UserError(
            f"the environment does not parse: {error}", f"give JSON: {PREFIX}KAFKA__OPTIONS='{{}}'"
        ) from None
    found = []
    named = {name for name in os.environ if name.upper().startswith(PREFIX)}
    for variable in sorted(named - _NO_SETTINGS):
        key = variable[len(PREFIX) :].lower().replace("__", ".")
        origin = f"environment {variable}"
        under = {k: v for k, v in values.items() if k == key or k.startswith(f"{key}.")}
        # A variable that the source did not take names no setting: keep it, so that it is refused.
        for name, value in (under or {key: os.environ[variable]}).items():
            found.append((name, _Given(value, origin)))
    return found


def _from_file(cwd: Path) -> list[tuple[str, _Given]]:
    path = _find_file(cwd)
    if path is None:
        return []
    text = path.read_text(encoding="utf-8")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}", "correct the file at that line") from None
    lines = _lines_of_keys(text)
    found = []
    for key, value in _flat(tree):
        place = f"{FILE}:{_line(key, lines)} {path}"
        found.append((key, _Given(_against(path.parent, key, value), place)))
    return found


def _find_file(cwd: Path) -> Path | None:
    for folder in (cwd.absolute(), *cwd.absolute().parents):
        if (folder / FILE).is_file():
            return folder / FILE
    return None


def _against(folder: Path, key: str, value: Any) -> Any:
    if not isinstance(value, str) or not value:
        return value
    if key in _PATHS:
        return str(folder / Path(value).expanduser())
    return absolute_address(value, folder) if key in _ADDRESSES else value


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line of each key and table header; tomllib does not keep them."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = header[1].replace('"', "").replace("'", "")
            lines.setdefault(table, number)
        elif entry := re.match(r"\s*([\w.\-\"']+)\s*=", line):
            name = entry[1].replace('"', "").replace("'", "")
            lines.setdefault(f"{table}.{name}" if table else name, number)
    return lines


def _line(key: str, lines: Mapping[str, int]) -> int:
    while key not in lines and "." in key:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)


def _validated(given: Mapping[str, _Given]) -> Settings:
    try:
        return Settings.model_validate(_tree(given))
    except ValidationError as error:
        faults = []
        for detail in error.errors(include_url=False, include_context=False):
            key = ".".join(str(part) for part in detail["loc"])
            place = given.get(key)
            seen = f" = {masked(key, place.value)!r} ({place.source})" if place else ""
            faults.append(f"setting {key}{seen}: {detail['msg'].lower()}")
        raise UserError("; ".join(faults), "correct the value; `rayplat config show` shows all") from None


def _tree(given: Mapping[str, _Given]) -> dict[str, Any]:
    options = [name for name, kind in _leaves(Settings) if kind == "options"]
    tree: dict[str, Any] = {}
    for key, item in given.items():
        group = next((name for name in options if key.startswith(f"{name}.")), None)
        parts = [*group.split("."), key[len(group) + 1 :]] if group else key.split(".")
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = item.value
    return tree
