"""JSON Web Tokens of an identity provider (OpenID Connect): who signs, for whom, until when.

Knows which signatures and claims are good, and how the provider's keys are kept and renewed; it does not know
what a caller may do beyond the scopes in the token.

Signatures are RS256 or ES256 by a public key of the provider's key set (RFC 7517); `none` and HMAC are never
taken, whatever the token says of itself. Issuer, audience, expiry and subject must be there and right. A
token that was verified is remembered until it ends, by its SHA-256, so that most requests cost no signature.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.telemetry import get_logger

ALGORITHMS = ("RS256", "ES256")
MOST_BYTES = 8192
RENEW_S = 300.0
AGAIN_S = 5.0
"""After so long at the earliest a key that is not known lets the key set be read again."""
LEEWAY_S = 30
_MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for: the subject, `endpoint:verb` scopes, and its end (s since 1970)."""

    caller: str
    scopes: tuple[str, ...]
    expires_at: float


class Keys:
    """The provider's public keys, renewed in the background.

    Args:
        address: of the JSON key set: a file, `file://`, `http://` or `https://`.
        read: reads an address; a seam for tests.
    """

    def __init__(self, address: str, read: "Callable[[str], bytes] | None" = None) -> None:
        self._address = address
        self._read = read or read_keys
        self._set: Any = None
        self._asked_at = float("-inf")
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._follow, name="jwks", daemon=True)

    def start(self) -> None:
        """Read the keys, and renew them from now on.

        Raises:
            UnavailableError: they cannot be read.
            UserError: it is no key set.
        """
        self.renew()
        self._thread.start()

    def renew(self) -> None:
        """Read the keys now; the old ones stay where it fails."""
        from joserfc.jwk import KeySet

        with self._lock:
            self._asked_at = time.monotonic()
            try:
                self._set = KeySet.import_key_set(orjson.loads(self._read(self._address)))
            except UnavailableError:
                raise
            # The library has an error of its own for every way in which a key can be wrong.
            except Exception as error:
                raise UserError(
                    f"{self._address} holds no key set: {error}", "see `serve.jwt_keys`"
                ) from error

    def current(self) -> Any:
        """The key set."""
        return self._set

    def want(self) -> None:
        """A token names a key that is not there: look again, soon."""
        if time.monotonic() - self._asked_at > AGAIN_S:
            self._wanted.set()

    def close(self) -> None:
        """Renew no longer."""
        self._ended = True
        self._wanted.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        while True:
            self._wanted.wait(RENEW_S)
            self._wanted.clear()
            if self._ended:
                return
            try:
                self.renew()
            except (UnavailableError, UserError) as error:
                get_logger("serve.admission").warning("keys cannot be renewed", error=str(error))


class Verifier:
    """Says who a JSON Web Token speaks for. For one thread.

    Args:
        keys: the provider's keys.
        issuer, audience: what the claims `iss` and `aud` must say.
    """

    def __init__(self, keys: Keys, issuer: str, audience: str) -> None:
        from joserfc.jwt import JWTClaimsRegistry

        self._keys = keys
        self._kept: OrderedDict[bytes, tuple[Any, Identity]] = OrderedDict()
        self._registry: Callable[[float], Any] = lambda now: JWTClaimsRegistry(
            now=int(now),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            sub={"essential": True},
            exp={"essential": True},
        )

    def identify(self, token: str, now: float) -> Identity | None:
        """The identity in a token; None where anything of it is wrong.

        Args:
            now: s since 1970.
        """
        if len(token) > MOST_BYTES:
            return None
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        keys = self._keys.current()
        kept = self._kept.get(name)
        # With the key set a key may have been taken back: what it had signed is verified anew.
        if kept is not None and kept[0] is keys:
            return kept[1] if now < kept[1].expires_at + LEEWAY_S else None
        found = self._verified(token, keys, now)
        if found is not None:
            self._kept[name] = keys, found
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def _verified(self, token: str, keys: Any, now: float) -> Identity | None:
        from joserfc import jwt
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            claims = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
            self._registry(now).validate(claims)
            scopes = claims.get("scope", "")
            return Identity(
                caller=str(claims["sub"])[:200],
                scopes=tuple(scopes.split()) if isinstance(scopes, str) else (),
                expires_at=float(claims["exp"]),
            )
        except InvalidKeyIdError:
            self._keys.want()
            return None
        except (JoseError, ValueError, TypeError, KeyError):
            return None


def read_keys(address: str) -> bytes:
    """The bytes at an address.

    Raises:
        UnavailableError: they cannot be read.
    """
    try:
        if address.startswith(("http://", "https://")):
            answer = httpx.get(address, timeout=5.0)
            answer.raise_for_status()
            return answer.content
        return Path(address.removeprefix("file://")).read_bytes()
    except (httpx.HTTPError, OSError) as error:
        raise UnavailableError(
            f"the keys at {address} cannot be read: {error}", "see `serve.jwt_keys`"
        ) from error
