import json
import logging
import time
from datetime import timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from rayplat.core.errors import UserError
from rayplat.core.settings import Settings
from rayplat.serve.admission.admission import ANYBODY, open_admission
from rayplat.serve.admission.decision import Admitted, Priority, Refused
from rayplat.serve.admission.grant import Limits
from rayplat.serve.admission.jwt import Keys, Verifier
from rayplat.serve.admission.tokens import TokenStore

DAY = timedelta(days=1)
NOW = 1_800_000_000.0
ISSUER, AUDIENCE = "https://id.example.com", "rayplat"


@pytest.fixture
def settings(tmp_path):
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps({"keys": [KEYS[name].as_dict(private=False) for name in ("rsa", "ec")]}))
    return Settings(
        home=tmp_path / "home",
        serve={"auth": "token", "jwt_keys": str(keys), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE},
    )


@pytest.fixture
def store(settings):
    found = TokenStore(settings)
    yield found
    found.close()


@pytest.fixture
def door(store, settings):
    store.version()
    found = open_admission(settings)
    yield found
    found.close()


KEYS = {
    "rsa": RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"}),
    "ec": ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"}),
    "other": ECKey.generate_key("P-256", {"kid": "ec"}),
    "unknown": ECKey.generate_key("P-256", {"kid": "new"}),
}
GOOD = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": int(NOW) + 600, "scope": "late:predict x:read"}


def _jwt(key="ec", algorithm="ES256", **claims):
    told = {name: value for name, value in {**GOOD, **claims}.items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": KEYS[key].kid}, told, KEYS[key], algorithms=[algorithm])


def _ask(door, token, endpoint="late", rows=1, now=None):
    return door.check(f"Bearer {token}".encode(), endpoint, rows, time.time() if now is None else now)


def test_without_authentication_everybody_is_let_in(tmp_path):
    door = open_admission(Settings(home=tmp_path))
    assert door.check(None, "late", 1, NOW) == Admitted(ANYBODY)
    door.close()


def test_a_token_lets_in_where_its_scope_is(door, store):
    made = store.create("shop", ("late:predict",), DAY, priority=Priority.HIGH)
    door._known.refresh()
    assert _ask(door, made.token) == Admitted("shop", Priority.HIGH)
    assert _ask(door, made.token, "other").status == 403
    assert door.check(b"bearer  " + made.token.encode(), "late", 1, time.time()) == Admitted(
        "shop", Priority.HIGH
    )
    assert door.check(made.token.encode(), "late", 1, time.time()).status == 401
    assert door.check(b"Basic " + made.token.encode(), "late", 1, time.time()).status == 401
    assert door.check(None, "late", 1, time.time()).status == 401


def test_forged_expired_and_revoked_tokens_are_refused_alike(door, store):
    made = store.create("shop", ("*:*",), DAY)
    revoked = store.create("shop", ("*:*",), DAY)
    store.revoke(revoked.grant.token_id)
    door._known.refresh()
    forged = made.token[:-2] + "__"
    answers = [
        _ask(door, made.token, now=time.time() + 2 * 86_400),
        _ask(door, revoked.token),
        _ask(door, forged),
    ]
    assert {a.status for a in answers} == {401}
    assert len({a.problem for a in answers}) == 1
    assert not any(made.grant.token_id in a.problem for a in answers)


def test_bytes_of_any_kind_are_refused_and_not_logged(door, caplog):
    caplog.set_level(logging.DEBUG)
    for hostile in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe",
        b"Bearer a.b.c",
        b"Bearer " + b"x" * 100_000,
    ):
        assert door.check(hostile, "late", 1, NOW).status == 401, hostile[:20]
    assert "Bearer" not in caplog.text


def test_a_caller_over_his_limit_is_refused_with_a_time(door, store):
    made = store.create("shop", ("late:predict",), DAY, limits=Limits(rate=1, burst=2))
    free = store.create("free", ("late:predict",), DAY)
    door._known.refresh()
    answers = []
    for _ in range(30):
        answers.append(_ask(door, made.token))
        time.sleep(0.01)
    refused = [a for a in answers if isinstance(a, Refused)]
    # 2 at once, a second's worth, and 2 leases of one: see `leases`.
    assert 2 <= len(answers) - len(refused) <= 5
    assert {a.status for a in refused} == {429}
    assert all(a.retry_after_s > 0 for a in refused)
    assert _ask(door, free.token) == Admitted("free")
    assert _ask(door, made.token, rows=50).retry_after_s is None


@pytest.mark.parametrize(("key", "algorithm"), [("rsa", "RS256"), ("ec", "ES256")])
def test_a_token_of_the_identity_provider_lets_in(door, key, algorithm):
    token = _jwt(key, algorithm)
    assert _ask(door, token, now=NOW) == Admitted("oidc:alice")
    assert _ask(door, token, now=NOW) == Admitted("oidc:alice")
    assert _ask(door, token, "x", now=NOW).status == 403
    assert _ask(door, token, now=NOW + 631).status == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"exp": int(NOW) - 60},
        {"exp": None},
        {"exp": "soon"},
        {"sub": None},
        {"nbf": int(NOW) + 600},
    ],
)
def test_a_wrong_claim_lets_nobody_in(door, claims):
    assert _ask(door, _jwt(**claims), now=NOW).status == 401


def test_forged_signatures_and_other_algorithms_let_nobody_in(door):
    good = _jwt()
    head, body, signature = good.split(".")
    swapped = _jwt(sub="bob").split(".")[1]
    public = KEYS["rsa"].as_pem(private=False)
    confused = jwt.encode(
        {"alg": "HS256", "kid": "rsa"}, GOOD, OctKey.import_key(public.hex()), algorithms=["HS256"]
    )
    none = "eyJhbGciOiJub25lIn0." + body + "."
    cut, resigned = f"{head}.{body}.", f"{head}.{swapped}.{signature}"
    forged = [_jwt("other"), resigned, cut, confused, none, _jwt("unknown"), good[:-4]]
    assert [_ask(door, token, now=NOW).status for token in forged] == [401] * len(forged)
    assert _ask(door, good, now=NOW) == Admitted("oidc:alice")


def test_a_new_key_of_the_provider_is_found_and_an_old_one_forgotten():
    served = [KEYS["ec"]]

    def read(_address):
        return json.dumps({"keys": [key.as_dict(private=False) for key in served]}).encode()

    keys = Keys("anywhere", read)
    keys.start()
    verifier = Verifier(keys, ISSUER, AUDIENCE)
    old, new = _jwt(), _jwt("unknown")
    assert verifier.identify(old, NOW).caller == "alice"
    served[:] = [KEYS["unknown"]]
    keys._asked_at = float("-inf")
    deadline = time.monotonic() + 5
    while verifier.identify(new, NOW) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert verifier.identify(old, NOW) is None
    keys.close()


def test_a_provider_named_in_part_is_refused(settings):
    partly = settings.model_copy(update={"serve": settings.serve.model_copy(update={"jwt_audience": ""})})
    with pytest.raises(UserError, match="audience"):
        open_admission(partly)


def test_a_check_takes_microseconds(door, store):
    made = store.create("shop", ("late:predict",), DAY, limits=Limits(rate=1e6, burst=1e6))
    door._known.refresh()
    header, took = b"Bearer " + made.token.encode(), []
    for _ in range(2000):
        begin = time.perf_counter()
        door.check(header, "late", 1, time.time())
        took.append(time.perf_counter() - begin)
    # About 15 us on an idle core; ten times that is a machine under load, and a check that asks the database.
    assert sorted(took)[1000] < 150e-6


def test_who_was_let_in_is_looked_up_anew_after_a_change_and_when_his_time_is_over(door, store):
    made, other = (store.create("shop", ("late:predict",), DAY) for _ in range(2))
    door._known.refresh()
    for _ in range(2):
        assert isinstance(_ask(door, made.token), Admitted)
    assert _ask(door, made.token, endpoint="early").status == 403
    assert _ask(door, made.token, now=time.time() + 86_401).status == 401
    assert isinstance(_ask(door, made.token), Admitted)
    store.revoke(other.grant.token_id)
    door._known.refresh()
    assert isinstance(_ask(door, made.token), Admitted)
    assert _ask(door, other.token).status == 401
    store.revoke(made.grant.token_id)
    door._known.refresh()
    assert _ask(door, made.token).status == 401


def test_tokens_that_cannot_be_looked_up_let_nobody_in_who_was_let_in_before(store, settings):
    made = store.create("shop", ("late:predict",), DAY)
    door = open_admission(settings)
    assert isinstance(_ask(door, made.token), Admitted)
    door._known._stale_s = -1.0
    assert _ask(door, made.token).status == 503
    door.close()
