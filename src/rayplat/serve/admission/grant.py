"""What a token grants: which endpoints and verbs, until when, how often, and with which priority.

Knows the form of a token and of a scope, and what both allow; it does not know where tokens are kept.
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from rayplat.core.errors import UserError
from rayplat.serve.admission.decision import Priority
from rayplat.serve.admission.limits import UNLIMITED, Limits

VERBS = ("predict", "read", "label")
"""What may be done with an endpoint: ask it, read what it is, tell it outcomes."""

_TOKEN = re.compile(r"rpt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_SCOPE = re.compile(r"(\*|[A-Za-z_][A-Za-z0-9_-]{0,199}):(\*|predict|read|label)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@dataclass(frozen=True, slots=True)
class Grant:
    """A token without its secret.

    Attributes:
        token_id: names the token; no secret.
        caller: who holds it; limits count by caller, over all his tokens.
        digest: SHA-256 (hex) of the secret, which is 256 random bits: nothing slower is needed.
        scopes: `endpoint:verb` each; `*` stands for all.
    """

    token_id: str
    caller: str
    digest: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    priority: Priority = Priority.NORMAL
    limits: Limits = UNLIMITED
    revoked_at: datetime | None = None

    def allows(self, endpoint: str, verb: str) -> bool:
        """Whether a scope covers a verb of an endpoint."""
        return allowed(self.scopes, endpoint, verb)

    def standing(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if now < self.expires_at else "expired"


def allowed(scopes: tuple[str, ...], endpoint: str, verb: str) -> bool:
    """Whether one of `endpoint:verb` scopes covers a verb of an endpoint."""
    return not {f"{endpoint}:{verb}", f"{endpoint}:*", f"*:{verb}", "*:*"}.isdisjoint(scopes)


def new_secret() -> tuple[str, str]:
    """The id of a new token and the token as its holder gets it, once."""
    token_id = secrets.token_hex(6)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    return token_id, f"rpt_{token_id}_{secret}"


def parts(token: str) -> tuple[str, str] | None:
    """The id and the digest of a token as it was sent; None where it has not the form of one."""
    match = _TOKEN.fullmatch(token)
    return None if match is None else (match[1], hashlib.sha256(match[2].encode()).hexdigest())


def check_scopes(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes in order, each once.

    Raises:
        UserError: there is none, or one has not the form of a scope.
    """
    wrong = [scope for scope in scopes if not _SCOPE.fullmatch(scope)]
    if wrong or not scopes:
        raise UserError(
            f"{', '.join(map(repr, wrong)) or 'nothing'} is no scope",
            f"write ENDPOINT:VERB such as late_arrival:predict; verbs are {', '.join(VERBS)} and *",
        )
    return tuple(sorted(set(scopes)))


def check_caller(caller: str) -> str:
    """A caller's name.

    Raises:
        UserError: it is empty, too long, or has other signs than a name has.
    """
    if not _NAME.fullmatch(caller):
        raise UserError(f"{caller[:100]!r} is no name of a caller", "use letters, digits, and . _ @ - inside")
    return caller
