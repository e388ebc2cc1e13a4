"""Reading the cluster file: YAML to a value, or every fault with its place.

Knows how the file is read; what may stand in it is known by the models.
"""

import copy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rayplat.cluster.spec.cluster import ClusterSpec
from rayplat.cluster.spec.faults import KeyPlace, SpecError, SpecFault, faults_of
from rayplat.cluster.spec.places import Keys, Places, find_places
from rayplat.core.errors import UserError

_MOST_ROUNDS = 50


def load_spec(path: Path) -> ClusterSpec:
    """Read a cluster file; a file that is not there means the defaults.

    Raises:
        SpecError: the file says what it may not; every fault is named with its place.
        UserError: the file is no YAML, or cannot be read.
    """
    if not path.exists():
        return ClusterSpec()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", "name a file of UTF-8 text") from error
    return parse_spec(text, str(path))


def parse_spec(text: str, file: str = "platform.yaml") -> ClusterSpec:
    """A cluster file's text as a value.

    Raises:
        SpecError: as `load_spec` does, with `file` as the name of the file.
        UserError: the text is no YAML.
    """
    try:
        raw = yaml.safe_load(text)
        places = find_places(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(
            f"{file}{place} is not YAML: {getattr(error, 'problem', None) or error}",
            "correct that line; a text with a colon or a bracket needs quotes",
        ) from error
    raw = {} if raw is None else raw
    faults = [_double(file, *double) for double in places.doubles]
    spec = _validated(raw, file, places, faults)
    if spec is None or faults:
        raise SpecError(file, sorted(set(faults), key=_order))
    return spec


def _validated(raw: Any, file: str, places: Places, faults: list[SpecFault]) -> ClusterSpec | None:
    """The value, or None with every fault added.

    What is at fault is taken out and the rest is looked at again: so the rules between the parts are
    told together with the faults of single values.
    """
    rest = copy.deepcopy(raw)
    first = True
    for _ in range(_MOST_ROUNDS):
        try:
            spec = ClusterSpec.model_validate(rest)
        except ValidationError as error:
            found = faults_of(file, error, raw, places)
            known = {_part(fault) for fault in faults}
            faults += [f for f in found if first or not _follows(f, known)]
            first = False
            if not _prune(rest, error):
                return None
        else:
            return spec if first else None
    return None


def _part(fault: SpecFault) -> str:
    return ".".join(fault.where.key.split(".")[:2])


def _follows(fault: SpecFault, known: set[str]) -> bool:
    """Whether a fault may be there only because a part with another fault was taken out."""
    of_groups = fault.where.key == "groups" or (
        fault.where.key.startswith("teams.") and ".quota." in fault.where.key
    )
    return _part(fault) in known or (of_groups and any(part.startswith("groups.") for part in known))


def _prune(rest: Any, error: ValidationError) -> bool:
    """Take out what is at fault; False when that is not possible."""
    locations: list[Keys] = [tuple(one["loc"]) for one in error.errors(include_url=False) if one["loc"]]
    removed = [_remove(rest, at[:-1] if at[-1] == "[key]" else at) for at in reversed(locations)]
    return any(removed)


def _remove(rest: Any, at: Keys) -> bool:
    # The nearest thing that is there: a missing key takes the mapping with it that misses it.
    holder = rest
    trail: list[tuple[Any, str | int]] = []
    for key in at:
        listed = isinstance(holder, list) and isinstance(key, int) and key < len(holder)
        if not (listed or (isinstance(holder, dict) and key in holder)):
            break
        trail.append((holder, key))
        holder = holder[key]
    if not trail:
        return False
    owner, key = trail[-1]
    del owner[key]
    return True


def _double(file: str, keys: Keys, first: Any, again: Any) -> SpecFault:
    return SpecFault(
        KeyPlace(file, again.line, again.column, ".".join(map(str, keys))),
        f"stands here and in line {first.line}",
        "keep one of them: YAML would take the last and say nothing",
    )


def _order(fault: SpecFault) -> tuple[int, int, str, str]:
    return (fault.where.line, fault.where.column, fault.where.key, fault.what)
