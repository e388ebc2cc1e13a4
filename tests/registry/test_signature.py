import stat
from pathlib import Path
from urllib.parse import urlparse

import orjson
import pytest

from rayplat.core.errors import ConflictError, IntegrityError, UserError
from rayplat.core.settings import RegistrySettings
from rayplat.registry.signature import SIGNATURE, check, make_key, sign

DIGEST = "a" * 64


@pytest.fixture
def keys(tmp_path):
    made = {name: make_key(tmp_path / name) for name in ("ours", "theirs")}
    assert made["ours"] != made["theirs"]
    return made


@pytest.fixture
def uri(tmp_path):
    (tmp_path / "artifact").mkdir()
    return f"file://{tmp_path}/artifact"


def signing(tmp_path, name="ours"):
    return RegistrySettings(signing_key=str(tmp_path / name))


def trusting(tmp_path, *names):
    return RegistrySettings(trusted_keys=",".join(str(tmp_path / f"{name}.pub") for name in names))


def test_a_trusted_key_vouches(tmp_path, keys, uri):
    assert sign(signing(tmp_path), uri, DIGEST) == keys["ours"]
    assert sign(signing(tmp_path), uri, DIGEST) == keys["ours"]  # again is the same
    assert check(trusting(tmp_path, "ours"), uri, DIGEST) == keys["ours"]
    assert check(trusting(tmp_path, "theirs", "ours"), uri, DIGEST) == keys["ours"]


def test_nothing_is_asked_where_no_key_is_trusted(tmp_path, uri):
    assert sign(RegistrySettings(), uri, DIGEST) is None
    assert check(RegistrySettings(), uri, DIGEST) is None


def test_what_is_not_vouched_for_is_refused(tmp_path, keys, uri):
    trusted = trusting(tmp_path, "ours")
    with pytest.raises(IntegrityError, match="is not signed"):
        check(trusted, uri, DIGEST)
    sign(signing(tmp_path, "theirs"), uri, DIGEST)
    with pytest.raises(IntegrityError, match=f"{keys['theirs']}, which is not trusted"):
        check(trusted, uri, DIGEST)
    sign(signing(tmp_path), uri, DIGEST)
    with pytest.raises(IntegrityError, match="does not hold"):
        check(trusted, uri, "b" * 64)  # another manifest


def test_a_forged_signature_does_not_hold(tmp_path, keys, uri):
    sign(signing(tmp_path, "theirs"), uri, DIGEST)
    place = Path(urlparse(uri).path) / SIGNATURE
    told = orjson.loads(place.read_bytes())
    place.write_bytes(orjson.dumps({**told, "key": keys["ours"]}))
    with pytest.raises(IntegrityError, match="does not hold"):
        check(trusting(tmp_path, "ours"), uri, DIGEST)
    for garbage in (b"", b"[]", b"{}", b'{"key": "x", "signature": "!"}', b"\xff"):
        place.write_bytes(garbage)
        with pytest.raises(IntegrityError, match="cannot be understood"):
            check(trusting(tmp_path, "ours"), uri, DIGEST)


def test_keys_are_made_once_and_kept_secret(tmp_path, keys):
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o600
    with pytest.raises(ConflictError, match="is there already"):
        make_key(tmp_path / "ours")


@pytest.mark.parametrize("content", [b"", b"no pem", None])
def test_a_key_that_cannot_be_read_is_told_without_its_content(tmp_path, uri, content):
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    with pytest.raises(UserError, match="bad cannot be read") as told:
        sign(RegistrySettings(signing_key=str(tmp_path / "bad")), uri, DIGEST)
    assert "no pem" not in str(told.value)
    with pytest.raises(UserError, match="bad cannot be read"):
        check(RegistrySettings(trusted_keys=str(tmp_path / "bad")), uri, DIGEST)
