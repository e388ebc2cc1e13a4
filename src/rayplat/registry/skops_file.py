"""The file of a scikit-learn estimator, the same bytes for the same estimator.

Knows what in a file of skops is of the process and the moment that wrote it (addresses in memory, the time of
day) and puts numbers in its place; it does not know what an estimator is.
"""

import io
import json
import zipfile
from pathlib import PurePosixPath
from typing import Any

_SCHEMA = "schema.json"
_IDENTITY, _FILE = "__id__", "file"


def numbered(content: bytes) -> bytes:
    """The file with its objects numbered in the order in which they are met, and without a time."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        files = {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA}
    identities: dict[Any, int] = {}
    names: dict[str, str] = {}
    renamed = _numbered(schema, identities, names)
    out = io.BytesIO()
    in_order = [*names, *sorted(files.keys() - names.keys())]
    with zipfile.ZipFile(out, "w") as archive:
        for name in in_order:
            archive.writestr(zipfile.ZipInfo(names.get(name, name)), files[name])
        archive.writestr(zipfile.ZipInfo(_SCHEMA), json.dumps(renamed))
    return out.getvalue()


def _numbered(node: Any, identities: dict[Any, int], names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_numbered(one, identities, names) for one in node]
    if not isinstance(node, dict):
        return node
    told: dict[str, Any] = {}
    for key, value in node.items():
        if key == _IDENTITY:
            told[key] = identities.setdefault(value, len(identities) + 1)
        elif key == _FILE and isinstance(value, str):
            kind = PurePosixPath(value).suffix
            told[key] = names.setdefault(value, f"{len(names):05d}{kind}")
        else:
            told[key] = _numbered(value, identities, names)
    return told
