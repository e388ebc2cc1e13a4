"""A nested state as tensors by name and, beside them, what JSON can hold.

Knows how dicts, lists, tuples and scalars are written down so that they come back with their types; it does
not know what a state means, nor where its tensors are kept (`layout`).
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import torch

from rayplat.core.errors import UserError

_TENSOR, _TUPLE, _ITEMS = "$tensor", "$tuple", "$items"
_PLAIN = "._-[]:"


def part(state: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Part a state into its skeleton and its tensors, by the path that leads to them.

    Returns:
        The skeleton, which JSON can hold, and the tensors themselves: no copies.

    Raises:
        UserError: it holds something that is neither.
    """
    tensors: dict[str, torch.Tensor] = {}
    return _part(state, "", tensors), tensors


def join(skeleton: Any, tensor_of: Callable[[str], torch.Tensor]) -> Any:
    """Put together again what `part` parted.

    Args:
        tensor_of: gives a tensor by its name.
    """
    if isinstance(skeleton, list):
        return [join(one, tensor_of) for one in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    if _TENSOR in skeleton:
        return tensor_of(skeleton[_TENSOR])
    if _TUPLE in skeleton:
        return tuple(join(one, tensor_of) for one in skeleton[_TUPLE])
    if _ITEMS in skeleton:
        return {join(key, tensor_of): join(value, tensor_of) for key, value in skeleton[_ITEMS]}
    return {key: join(value, tensor_of) for key, value in skeleton.items()}


def plain(skeleton: Any) -> Any:
    """A skeleton without tensors, with its types again.

    Raises:
        UserError: there are tensors in it.
    """
    return join(skeleton, _none_here)


def _none_here(name: str) -> torch.Tensor:
    raise UserError(f"the state has a tensor at {name!r}, and only plain values are wanted", "load it whole")


def _part(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if path in tensors:
            raise UserError(f"two tensors of the state are both called {path!r}", "rename one of its keys")
        tensors[path] = value.detach()
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return _part_mapping(value, path, tensors)
    if isinstance(value, tuple):
        return {_TUPLE: [_part(one, _below(path, at), tensors) for at, one in enumerate(value)]}
    if isinstance(value, list):
        return [_part(one, _below(path, at), tensors) for at, one in enumerate(value)]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise UserError(
        f"the state has a {type(value).__name__} at {path!r}",
        "a checkpoint holds tensors, numbers, texts, lists, tuples and dicts: turn it into one of these",
    )


def _part_mapping(value: Mapping[Any, Any], path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _part(one, _below(path, key), tensors) for key, one in value.items()}
    items = [[_part(k, "", {}), _part(one, _below(path, k), tensors)] for k, one in value.items()]
    return {_ITEMS: items}


def _below(path: str, key: object) -> str:
    name = quote(str(key), safe=_PLAIN)
    return f"{path}/{name}" if path else name
