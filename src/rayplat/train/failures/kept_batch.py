"""A batch that a step went wrong on, kept for diagnosis.

Knows how the tensors and what is known of the step are written and read again; it does not know what went
wrong.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rayplat.registry.folder import open_folders, read_file

_FILE = "batch.safetensors"


def keep_batch(uri: str, name: str, tensors: Sequence[Any], about: Mapping[str, Any]) -> str:
    """Write a batch down as safetensors, with `about` in its header; where it is.

    A folder of that name that is there stays: the step was taken before, on the same rows.
    """
    from safetensors.torch import save

    named = {f"{at}": tensor.detach().cpu().clone().contiguous() for at, tensor in enumerate(tensors)}
    content = save(named, metadata={"about": json.dumps(dict(about))})
    store, path = open_folders(f"{uri}/{name}")
    store.publish(path, {_FILE: content}, last=_FILE)
    return f"{uri}/{name}/{_FILE}"


def read_batch(uri: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """The tensors of a kept batch in the order they were given, and what is known of its step.

    Raises:
        NotFoundError: there is no such batch.
    """
    from safetensors.torch import load

    content = read_file(f"{uri}/{name}", _FILE)
    size = int.from_bytes(content[:8], "little")
    about: dict[str, Any] = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["about"])
    tensors = load(content)
    return [tensors[f"{at}"] for at in range(len(tensors))], about
