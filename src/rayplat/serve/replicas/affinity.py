"""Which replica a connection goes to that asks for one of an endpoint's models: most likely one that has it.

Knows how the bytes of a request name a model, and an order of replicas for each (rendezvous hashing: Thaler
and Ravishankar, 1998); it does not know which replica has what loaded. The same model goes to the same
replica as long as that one is not much busier than the others, so that it is loaded once, not everywhere. A
replica that comes or goes moves only the models that are its own.
"""

import re
from hashlib import blake2b

SLACK = 4
"""So many connections more than the least busy replica the preferred one may have."""

_NAME = rb"([A-Za-z0-9_]{1,100})"
_PATH = re.compile(rb"[A-Z]{1,20} [^ ?]*/(?:models/%b/predict|versions/%b/infer)[ ?]" % (_NAME, _NAME))
_HEADER = re.compile(rb"\r\n(?:rayplat-model|serve_multiplexed_model_id): *%b\r\n" % _NAME, re.IGNORECASE)


def asked_choice(seen: bytes) -> bytes | None:
    """The model or version that the beginning of a request names; None: it is not seen to name one."""
    found = _PATH.match(seen)
    if found is not None:
        return found[1] or found[2]
    named = _HEADER.search(seen)
    return None if named is None else named[1]


def turn_of(choice: bytes, replica: str, connections: int, least: int) -> tuple[bool, bytes]:
    """Where a replica stands among those that may be given a choice; the lowest comes first.

    Args:
        replica: tells it from the others, and stays the same.
        connections: that it has.
        least: that the least busy one has.
    """
    named = b"%b/%b" % (choice, replica.encode())
    return connections > least + SLACK, blake2b(named, digest_size=8).digest()
