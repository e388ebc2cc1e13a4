"""Rendered YAML: the same value is always the same text, and its first lines say how it is made.

Knows how a document is written; it does not know what stands in it.
"""

from collections.abc import Sequence
from typing import Any

import yaml

_HEADER = """\
# Made from cluster/platform.yaml by `rayplat cluster render {target}`: edit that file, not this one.
"""


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are, and never an alias for what stands there twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def rendered(target: str, documents: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> str:
    """The text of one rendered file.

    Args:
        target: the word after `rayplat cluster render`.
        documents: one or more YAML documents, their keys in the order to be written.
        notes: further lines of the header, without `#`.
    """
    header = _HEADER.format(target=target) + "".join(f"# {note}\n" for note in notes)
    bodies = [
        yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
        for document in documents
    ]
    return header + "---\n".join(bodies)
