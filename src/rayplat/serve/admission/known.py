"""The tokens that a replica knows: a copy in memory that follows the database.

Knows how the copy is kept fresh and how a token is looked up in it; it does not know scopes or limits.

The counter of changes is asked for every 0.25 s, so a token that is revoked is refused everywhere within a
second. Where the database does not answer, the copy goes on being used for a while (nothing can be revoked in
a database that is away), and then nobody is let in by a token until it answers.
"""

import hmac
import threading
import time
from collections.abc import Mapping

from rayplat.core.errors import RayplatError, UnavailableError
from rayplat.core.telemetry import get_logger
from rayplat.serve.admission.grant import Grant, parts
from rayplat.serve.admission.tokens import TokenStore

EVERY_S = 0.25
STALE_S = 60.0
_NO_DIGEST = "0" * 64


class KnownTokens:
    """The copy. Read by any thread.

    Args:
        store: where tokens are kept.
        every_s: how often the counter of changes is asked for.
        stale_s: how long the copy is good while the database does not answer.
    """

    def __init__(self, store: TokenStore, *, every_s: float = EVERY_S, stale_s: float = STALE_S) -> None:
        self._store = store
        self._every_s = every_s
        self._stale_s = stale_s
        self._grants: dict[str, Grant] = {}
        self._version = -1
        self._fresh_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tokens", daemon=True)

    def start(self) -> None:
        """Read the tokens, and follow the changes from now on.

        Raises:
            UnavailableError: the database does not answer.
        """
        self.refresh()
        self._thread.start()

    def refresh(self) -> None:
        """Take changes in, if there are any.

        Raises:
            UnavailableError: the database does not answer.
        """
        asked_at = time.monotonic()
        if self._store.version() != self._version:
            version, grants = self._store.grants()
            self._grants = {grant.token_id: grant for grant in grants}  # readers see the old or the new one
            self._version = version
        self._fresh_at = asked_at

    def current(self) -> Mapping[str, Grant]:
        """The grants by their ids; another mapping after each change, so that what was found in it holds as
        long as it is the same.

        Raises:
            UnavailableError: the copy is too old to say.
        """
        if time.monotonic() - self._fresh_at > self._stale_s:
            raise UnavailableError("the tokens cannot be looked up now", "look at the database")
        return self._grants

    def find(self, token: str) -> Grant | None:
        """The grant of a token; None where the token is none of ours.

        Raises:
            UnavailableError: the copy is too old to say.
        """
        grants, found = self.current(), parts(token)
        if found is None:
            return None
        grant = grants.get(found[0])
        # Compared also where there is none, so that the time taken does not tell ids from secrets.
        same = hmac.compare_digest(grant.digest if grant else _NO_DIGEST, found[1])
        return grant if same else None

    def close(self) -> None:
        """Follow no longer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._store.close()

    def _follow(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.refresh()
            except RayplatError as error:
                get_logger("serve.admission").warning("tokens cannot be read", error=str(error))
