"""What must never be shown: passwords inside addresses, and options that are named like one.

Knows how to mask a text, a value by its name, and a tree of both; it does not know who shows it.
"""

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"

_IN_URL = re.compile(r"(?P<head>[A-Za-z][A-Za-z0-9+.\-]*://[^\s/@:]*:)(?P<secret>[^\s/]+)(?=@)")
_IN_QUERY = re.compile(
    r"(?P<head>[?&;](?:password|passwd|pwd|secret|token|sslpassword|access_key|secret_key)=)[^&;\s]+", re.I
)
_NAMED = re.compile(
    r"password|passwd|secret|token|credential|private|sasl\.jaas|api_?key|access_?key|authorization",
    re.I,
)


def mask(text: str) -> str:
    """Replace the passwords in every address inside `text` by `***`; the rest stays as it is."""
    return _IN_QUERY.sub(rf"\g<head>{MASK}", _IN_URL.sub(rf"\g<head>{MASK}", text))


def masked(name: str, value: Any) -> Any:
    """`value` as it may be shown under `name`: masked whole if the name speaks of a secret.

    Mappings and sequences are masked item by item, under their own names.
    """
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(name, item) for item in value]
    if isinstance(value, str):
        return MASK if value and _NAMED.search(name) else mask(value)
    return value
