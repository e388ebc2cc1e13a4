"""Admission: whether a request is answered, said in microseconds and without waiting.

Knows the order of the questions: who asks, may he, has he asked too much, is there too much for the replica;
it does not know HTTP beyond the credential in a header, nor how an answer is made. What a caller sent is
never repeated in a problem nor logged.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from rayplat.core.errors import UnavailableError, UserError
from rayplat.core.settings import Settings
from rayplat.core.telemetry import counter
from rayplat.serve.admission.bucket import Bucket
from rayplat.serve.admission.decision import Admitted, Decision, NotAdmittedError, Priority, Refused
from rayplat.serve.admission.grant import Grant, allowed
from rayplat.serve.admission.jwt import Keys, Verifier
from rayplat.serve.admission.known import KnownTokens
from rayplat.serve.admission.leases import Leases
from rayplat.serve.admission.limits import Limits
from rayplat.serve.admission.shared import SharedLevels
from rayplat.serve.admission.shedding import Shedder
from rayplat.serve.admission.tokens import TokenStore

ANYBODY = "anonymous"
_MOST_KEPT = 4096
_ANYBODY = Admitted(ANYBODY)
_UNKNOWN = Refused(401, "a valid token is needed: send it as `Authorization: Bearer ...`")


class Admission(Protocol):
    """Decides on requests. For one thread."""

    def check(self, header: bytes | None, endpoint: str, rows: int, now: float) -> Decision:
        """Decide on a request.

        Args:
            header: the value of `Authorization`, as it was sent.
            rows: how much of the caller's limits the request counts for; 0: that is told later (`charge`),
                and only who has nothing left is refused.
            now: s since 1970.
        """

    def charge(self, admitted: Admitted, endpoint: str, rows: int, now: float) -> None:
        """Count the instances of a request that was let in with 0; from any thread.

        Raises:
            NotAdmittedError: they are more than the caller may ask now.
        """

    def waited(self, seconds: float) -> None:
        """Tell how long a request that was let in has waited before its work began; from any thread."""

    def close(self) -> None:
        """Stop what goes on in the background."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A credential that was verified: what it allows, as long as these grants are current, until a time (s
    since 1970)."""

    admitted: Admitted
    grants: Mapping[str, Grant]
    until: float


class OpenDoor:
    """Lets in whoever asks, as long as the replica keeps up.

    Args:
        shedder: says when it does not.
        clock: s, for the shedder.
    """

    def __init__(self, shedder: Shedder | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._shedder = shedder or Shedder()
        self._clock = clock
        self._count = itertools.count()
        # Told by the thread that works, read by the one that asks.
        self._waits: deque[float] = deque(maxlen=1000)
        self._refused = counter(
            "serve_refused_total", "requests that were not let in", ("endpoint", "status")
        )

    def check(self, header: bytes | None, endpoint: str, rows: int, now: float) -> Decision:
        """See `Admission.check`."""
        return self.shed(_ANYBODY, endpoint)

    def charge(self, admitted: Admitted, endpoint: str, rows: int, now: float) -> None:
        """Nobody has limits."""

    def shed(self, admitted: Admitted, endpoint: str) -> Decision:
        """Refuse a request that may be answered where there is too much."""
        # Golden-ratio steps spread consecutive requests evenly over the ranks of a priority.
        spread, now = next(self._count) * 40_503 >> 4, self._clock()
        while self._waits:
            self._shedder.waited(self._waits.popleft(), now)
        shed = self._shedder.decide(admitted.priority, spread, now)
        if not shed.refused:
            return admitted
        return self.refuse(Refused(503, "too many requests wait: ask later", shed.retry_after_s), endpoint)

    def refuse(self, refused: Refused, endpoint: str) -> Refused:
        """Count a refusal."""
        self._refused.labels(endpoint, str(refused.status)).inc()
        return refused

    def waited(self, seconds: float) -> None:
        """See `Admission.waited`."""
        self._waits.append(seconds)

    def close(self) -> None:
        """Nothing goes on."""


class TokenDoor(OpenDoor):
    """Lets in who has a token of the platform or of its identity provider.

    Args:
        known: the platform's tokens.
        leases: what callers may still ask.
        keys, verifier: of the identity provider; None: only the platform's tokens count.
    """

    def __init__(
        self,
        known: KnownTokens,
        leases: Leases,
        keys: Keys | None = None,
        verifier: Verifier | None = None,
        shedder: Shedder | None = None,
    ) -> None:
        super().__init__(shedder)
        self._known = known
        self._leases = leases
        self._keys = keys
        self._verifier = verifier
        self._kept: dict[tuple[bytes, str, str], _Kept] = {}
        self._buckets: dict[tuple[str, Limits], tuple[str, Bucket]] = {}

    def check(
        self, header: bytes | None, endpoint: str, rows: int, now: float, verb: str = "predict"
    ) -> Decision:
        """See `Admission.check`."""
        if header is None:
            return self.refuse(_UNKNOWN, endpoint)
        try:
            kept = self._kept.get((header, endpoint, verb))
            # After any change of the tokens all are looked up anew.
            if kept is not None and now < kept.until and kept.grants is self._known.current():
                found: Decision = kept.admitted
            else:
                found = self._who(header, endpoint, verb, now)
        except UnavailableError:
            return self.refuse(Refused(503, "tokens cannot be checked now: ask later", 1.0), endpoint)
        if isinstance(found, Refused):
            return self.refuse(found, endpoint)
        # Shed first: what a replica has no time for is not counted against the caller.
        decided = self.shed(found, endpoint)
        if isinstance(decided, Refused):
            return decided
        return self._limited(found, endpoint, rows, now) or found

    def charge(self, admitted: Admitted, endpoint: str, rows: int, now: float) -> None:
        """See `Admission.charge`."""
        refused = self._limited(admitted, endpoint, rows, now)
        if refused is not None:
            raise NotAdmittedError(refused)

    def close(self) -> None:
        """See `Admission.close`."""
        self._known.close()
        self._leases.close()
        if self._keys is not None:
            self._keys.close()

    def _who(self, header: bytes, endpoint: str, verb: str, now: float) -> Decision:
        token = _bearer(header)
        if token is None:
            return _UNKNOWN
        grants = grant = None
        if token.startswith("rpt_"):
            grants = self._known.current()
            grant = self._known.find(token)
            if grant is None or grant.standing(datetime.fromtimestamp(now, UTC)) != "valid":
                return _UNKNOWN
            caller, scopes, priority, limits = grant.caller, grant.scopes, grant.priority, grant.limits
        else:
            identity = self._verifier.identify(token, now) if self._verifier is not None else None
            if identity is None:
                return _UNKNOWN
            # No caller of the platform's own tokens has a colon in his name: nobody can pass for another.
            caller, scopes = f"oidc:{identity.caller}", identity.scopes
            priority, limits = Priority.NORMAL, Limits()
        if not allowed(scopes, endpoint, verb):
            return Refused(403, f"this token does not allow to {verb} here")
        admitted = Admitted(caller, priority, limits)
        if grants is not None and grant is not None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[header, endpoint, verb] = _Kept(admitted, grants, grant.expires_at.timestamp())
        return admitted

    def _limited(self, admitted: Admitted, endpoint: str, rows: int, now: float) -> Refused | None:
        wait = self._exceeded(admitted.caller, admitted.limits, rows, now)
        if not wait:
            return None
        known = wait if wait < 86_400 else None
        return self.refuse(Refused(429, "over the limit of this caller", known), endpoint)

    def _exceeded(self, caller: str, limits: Limits, rows: int, now: float) -> float:
        """Seconds until the caller may ask again; 0.0 where he may."""
        if limits.rate is not None:
            name, bucket = self._buckets.get((caller, limits)) or self._bucket(caller, limits, limits.rate)
            wait = self._leases.take(name, bucket, rows)
            if wait:
                return wait
        if limits.daily is not None:
            day = int(now // 86_400)
            wait = self._leases.take(f"{caller}/day/{day}", Bucket(0.0, limits.daily), rows)
            if wait:
                return min(wait, 86_400 - now % 86_400)
        return 0.0

    def _bucket(self, caller: str, limits: Limits, rate: float) -> tuple[str, Bucket]:
        if len(self._buckets) >= _MOST_KEPT:
            self._buckets.clear()
        burst = limits.burst if limits.burst is not None else max(1.0, rate)
        made = self._buckets[caller, limits] = f"{caller}/rate", Bucket(rate, burst)
        return made


def open_admission(settings: Settings) -> Admission:
    """The admission of a replica, as the settings have it.

    Raises:
        UnavailableError: the database or the provider's keys cannot be read.
        UserError: an identity provider is named in part.
    """
    serve = settings.serve
    if serve.auth == "none":
        return OpenDoor()
    if serve.jwt_keys and not (serve.jwt_issuer and serve.jwt_audience):
        raise UserError(
            "an identity provider without an issuer or an audience would let its other customers in",
            "set serve.jwt_issuer and serve.jwt_audience",
        )
    known = KnownTokens(TokenStore(settings))
    known.start()
    keys = verifier = None
    if serve.jwt_keys:
        keys = Keys(serve.jwt_keys)
        keys.start()
        verifier = Verifier(keys, serve.jwt_issuer, serve.jwt_audience)
    return TokenDoor(known, Leases(SharedLevels(settings)), keys, verifier)


def _bearer(header: bytes | None) -> str | None:
    """The token in a header `Bearer ...` (RFC 6750, section 2.1); None where there is none."""
    if header is None:
        return None
    scheme, _, token = header.partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" and token else None
