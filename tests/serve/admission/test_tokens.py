import time
from datetime import UTC, datetime, timedelta

import pytest

from rayplat.core.errors import NotFoundError, UnavailableError, UserError
from rayplat.core.events import EventBus, TokenCreated, TokenRevoked
from rayplat.core.settings import Settings
from rayplat.governance.audit_log import AuditLog
from rayplat.serve.admission.decision import Priority
from rayplat.serve.admission.grant import Limits, allowed, check_scopes
from rayplat.serve.admission.known import KnownTokens
from rayplat.serve.admission.tokens import TokenStore

DAY = timedelta(days=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    found = TokenStore(Settings(home=tmp_path))
    yield found
    found.close()


@pytest.fixture
def known(store):
    found = KnownTokens(store)
    found.start()
    yield found
    found.close()


def test_a_token_is_shown_once_and_only_its_digest_is_kept(store, tmp_path):
    made = store.create("shop", ("late:predict",), DAY, limits=Limits(rate=5, daily=100))
    secret = made.token.rpartition("_")[2]
    assert len(made.token) == 60
    assert secret not in repr(made)
    assert secret not in str(made.grant)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert store.grants() == (1, [made.grant])


def test_a_token_is_known_and_a_forged_one_is_not(store, known):
    made, other = (store.create("shop", ("late:predict",), DAY) for _ in range(2))
    known.refresh()
    assert known.find(made.token) == made.grant
    mixed = made.token[:16] + other.token[16:]
    last = made.token[:-1] + ("A" if made.token[-1] != "A" else "B")
    for forged in (
        mixed,
        last,
        made.token + "A",
        made.token.upper(),
        "",
        "rpt_",
        "rpt_" + "0" * 12,
        "ü" * 60,
    ):
        assert known.find(forged) is None, forged


def test_scopes():
    assert allowed(("late:predict",), "late", "predict")
    assert not allowed(("late:predict",), "late", "label")
    assert not allowed(("late:predict",), "later", "predict")
    assert allowed(("*:read", "late:*"), "other", "read")
    assert allowed(("*:read", "late:*"), "late", "label")
    assert not allowed((), "late", "predict")
    assert check_scopes(("b:read", "a:*", "b:read")) == ("a:*", "b:read")
    for wrong in (
        (),
        ("late",),
        ("late:fly",),
        ("la te:read",),
        ("../x:read",),
        (":read",),
        ("late:read\n",),
    ):
        with pytest.raises(UserError):
            check_scopes(wrong)


@pytest.mark.parametrize("name", ["", "a" * 101, "a b", "a\n", "-a", "ü"])
def test_a_callers_name_is_plain(store, name):
    with pytest.raises(UserError, match="caller"):
        store.create(name, ("*:*",), DAY)


def test_a_rotated_token_is_good_until_the_overlap_ends(store):
    old = store.create("shop", ("late:predict",), 30 * DAY, priority=Priority.HIGH, now=NOW)
    new = store.rotate(old.grant.token_id, 30 * DAY, timedelta(hours=1), now=NOW + DAY)
    before, after = (next(g for g in store.grants()[1] if g.token_id == m.grant.token_id) for m in (old, new))
    assert before.standing(NOW + DAY + timedelta(minutes=59)) == "valid"
    assert before.standing(NOW + DAY + timedelta(hours=1)) == "expired"
    assert (after.caller, after.scopes, after.priority) == ("shop", ("late:predict",), Priority.HIGH)
    assert after.expires_at == NOW + 31 * DAY
    with pytest.raises(UserError, match="expired"):
        store.rotate(old.grant.token_id, DAY, DAY, now=NOW + 2 * DAY)


def test_an_overlap_does_not_lengthen_a_life(store):
    old = store.create("shop", ("late:predict",), DAY, now=NOW)
    store.rotate(old.grant.token_id, DAY, 9 * DAY, now=NOW)
    assert store.grants()[1][0].expires_at == NOW + DAY


def test_a_revoked_token_is_refused_by_replicas_within_a_second(store, known):
    made = store.create("shop", ("late:predict",), DAY)
    known.refresh()
    store.revoke(made.grant.token_id)
    begin = time.monotonic()
    while known.find(made.token).standing(datetime.now(UTC)) == "valid":
        assert time.monotonic() - begin < 1.0
        time.sleep(0.01)
    assert known.find(made.token).standing(datetime.now(UTC)) == "revoked"


def test_what_is_not_there_cannot_be_revoked(store):
    with pytest.raises(NotFoundError):
        store.revoke("0" * 12)
    with pytest.raises(NotFoundError):
        store.rotate("0" * 12, DAY, DAY)


def test_changes_are_in_the_audit_log_without_secrets(tmp_path):
    settings, bus, told = Settings(home=tmp_path, user="ops"), EventBus(), []
    audit = AuditLog(settings)
    for kind in (TokenCreated, TokenRevoked):
        bus.subscribe(kind, told.append)
        bus.subscribe(kind, audit.record)
    store = TokenStore(settings, bus)
    made = store.create("shop", ("late:predict",), DAY)
    store.revoke(made.grant.token_id)
    store.revoke(made.grant.token_id)
    entries = audit.entries()
    assert [(e.action, e.subject, e.actor) for e in entries] == [
        ("token.created", made.grant.token_id, "ops"),
        ("token.revoked", made.grant.token_id, "ops"),
    ]
    assert made.grant.digest not in str(entries)
    assert audit.verify() == 2
    store.close()
    audit.close()


class _Away:
    def __init__(self, store):
        self.store, self.away = store, False

    def version(self):
        if self.away:
            raise UnavailableError("away")
        return self.store.version()

    def grants(self):
        return self.store.grants()

    def close(self):
        self.store.close()


def test_without_the_database_tokens_are_good_for_a_while_and_then_nobody_is_let_in(store):
    made = store.create("shop", ("late:predict",), DAY)
    away = _Away(store)
    known = KnownTokens(away, every_s=0.02, stale_s=0.3)
    known.start()
    away.away = True
    assert known.find(made.token) == made.grant
    time.sleep(0.5)
    with pytest.raises(UnavailableError):
        known.find(made.token)
    away.away = False
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert known.find(made.token) == made.grant
            break
        except UnavailableError:
            time.sleep(0.02)
    else:
        pytest.fail("the tokens did not come back")
    known.close()
