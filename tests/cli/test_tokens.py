"""`rayplat tokens`: made once, listed without secrets, rotated, revoked, and told to the audit log."""

from datetime import timedelta

import pytest

from rayplat.cli.tokens import parse_duration
from rayplat.core.errors import UserError


def test_a_tokens_life(rayplat):
    limits = ("--rate", "5", "--daily", "100", "--for", "30d", "--priority", "high")
    made = rayplat("tokens", "create", "shop", "--scope", "late:predict", *limits, "-o", "json").data
    assert made["token"].startswith(f"rpt_{made['token_id']}_")
    assert (made["caller"], made["scopes"], made["priority"]) == ("shop", ["late:predict"], "high")
    listed = rayplat("tokens", "list", "-o", "json")
    assert made["token"] not in listed.out
    assert [one["standing"] for one in listed.data] == ["valid"]
    new = rayplat("tokens", "rotate", made["token_id"], "--overlap", "1h", "-o", "json").data
    assert new["token"] != made["token"]
    assert (new["rate"], new["daily"], new["priority"]) == (5.0, 100, "high")
    assert rayplat("tokens", "revoke", made["token_id"], "-o", "json").data["standing"] == "revoked"
    actions = [entry["action"] for entry in rayplat("audit", "list", "-o", "json").data]
    assert actions == ["token.created", "token.created", "token.revoked"]
    assert made["token"] not in rayplat("audit", "list").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "shop", "--scope", "late"], "ENDPOINT:VERB"),
        (["create", "sh op", "--scope", "late:predict"], "caller"),
        (["create", "shop", "--scope", "late:predict", "--for", "soon"], "90d"),
        (["create", "shop", "--scope", "late:predict", "--priority", "vip"], "priority"),
        (["create", "shop", "--scope", "late:predict", "--rate", "0"], "rate"),
    ],
)
def test_what_is_wrong_is_told(rayplat, arguments, told):
    ran = rayplat("tokens", *arguments)
    assert ran.code == 2
    assert told in ran.err


def test_a_token_that_is_not_there(rayplat):
    assert rayplat("tokens", "revoke", "0" * 12).code == 3


def test_durations():
    assert parse_duration("90d") == timedelta(days=90)
    assert parse_duration("45s") == timedelta(seconds=45)
    for wrong in ("", "d", "-1d", "1w", "99999d", "1.5h", "\uff11d"):
        with pytest.raises(UserError):
            parse_duration(wrong)
