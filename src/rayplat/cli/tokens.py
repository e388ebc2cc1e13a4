"""`rayplat tokens`: who may ask endpoints.

Knows how a token is asked for and shown; it does not know how one is kept or checked.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayplat.cli.command import Call, command, group
from rayplat.cli.output import fields, listing
from rayplat.core.errors import UserError

if TYPE_CHECKING:
    from rayplat.serve.admission.grant import Grant
    from rayplat.serve.admission.tokens import NewToken, TokenStore

app = group("Who may ask endpoints: tokens, their scopes and limits.")

_COLUMNS = ["token_id", "caller", "scopes", "priority", "expires_at", "standing"]
_TIME = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)

TokenId = Annotated[str, typer.Argument(metavar="TOKEN_ID", show_default=False)]
Lifetime = Annotated[str, typer.Option("--for", metavar="TIME", help="How long it is good: 90d, 12h, 30m.")]


@command(app)
def create(
    call: Call,
    caller: Annotated[str, typer.Argument(metavar="CALLER", show_default=False)],
    scope: Annotated[list[str], typer.Option(help="ENDPOINT:VERB; may be repeated.", show_default=False)],
    *,
    lifetime: Lifetime = "90d",
    priority: Annotated[str, typer.Option(help="low, normal or high: low is refused first.")] = "normal",
    rate: Annotated[float | None, typer.Option(help="Requests a second, lasting.")] = None,
    burst: Annotated[float | None, typer.Option(help="How many at once; as `rate`, if left out.")] = None,
    daily: Annotated[int | None, typer.Option(help="Requests a day (UTC).")] = None,
) -> None:
    """Make a token for a caller; it is shown once."""
    from rayplat.serve.admission.decision import Priority
    from rayplat.serve.admission.limits import Limits

    known = {p.name.lower(): p for p in Priority}
    if priority not in known:
        raise UserError(f"{priority!r} is no priority", f"give one of {', '.join(known)}")
    made = _store(call).create(
        caller,
        tuple(scope),
        parse_duration(lifetime),
        priority=known[priority],
        limits=Limits(rate, burst, daily),
    )
    _show_new(call, made)


@command(app, "list")
def list_tokens(call: Call) -> None:
    """List all tokens, also those that have ended; no secrets."""
    now = datetime.now(UTC)
    found = [_plain(grant, now) for grant in _store(call).grants()[1]]
    call.show(found, lambda: listing(found, _COLUMNS, "tokens"))


@command(app)
def rotate(
    call: Call,
    token_id: TokenId,
    lifetime: Lifetime = "90d",
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long the old one stays good.")] = "1d",
) -> None:
    """Make a token with the rights of another, which ends after the overlap."""
    made = _store(call).rotate(token_id, parse_duration(lifetime), parse_duration(overlap))
    _show_new(call, made)


@command(app)
def revoke(call: Call, token_id: TokenId) -> None:
    """End a token for ever; every replica refuses it within a second."""
    found = _plain(_store(call).revoke(token_id), datetime.now(UTC))
    call.show(found, lambda: fields(found))


def parse_duration(text: str) -> timedelta:
    """A time such as 90d, 12h, 30m or 45s; at most ten years.

    Raises:
        UserError: the text is none.
    """
    match = _TIME.fullmatch(text)
    found = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
    if found is None or found > _LONGEST:
        raise UserError(f"{text[:40]!r} is no time up to ten years", "write 90d, 12h, 30m or 45s")
    return found


def _store(call: Call) -> "TokenStore":
    from rayplat.serve.admission.tokens import TokenStore

    platform = call.platform()
    return TokenStore(platform.settings, platform.bus)


def _show_new(call: Call, made: "NewToken") -> None:
    found = {"token": made.token, **_plain(made.grant, datetime.now(UTC))}
    call.show(found, lambda: fields(found))


def _plain(grant: "Grant", now: datetime) -> dict[str, Any]:
    return {
        "token_id": grant.token_id,
        "caller": grant.caller,
        "scopes": list(grant.scopes),
        "priority": grant.priority.name.lower(),
        "rate": grant.limits.rate,
        "burst": grant.limits.burst,
        "daily": grant.limits.daily,
        "created_at": grant.created_at,
        "expires_at": grant.expires_at,
        "standing": grant.standing(now),
    }
