"""Signatures of artifacts: Ed25519 (RFC 8032) over the digest of the manifest, which names every file's.

Knows keys and what they vouch for; it does not know what an artifact holds. Who may
write to the registry can name another artifact whose digests hold, but cannot sign it.
"""

import hashlib
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from rayplat.core.errors import ConflictError, IntegrityError, NotFoundError, UserError
from rayplat.core.settings import RegistrySettings
from rayplat.registry.folder import open_folders, read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE = "manifest.sig"
_SAYS = b"rayplat manifest v1 "
_MEND = "train the model where a trusted key signs it, or sign it: rayplat models sign"


def make_key(path: Path) -> str:
    """Make a key pair: the secret key in `path`, readable by its owner, the public one in `path`.pub.

    Returns:
        The id of the key.

    Raises:
        ConflictError: one of the files is there already.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for file, content, mode in ((path, secret, 0o600), (path.with_name(f"{path.name}.pub"), public, 0o644)):
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise ConflictError(f"{file} is there already", "name another file") from error
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
    return _id(key.public_key())


def sign(settings: RegistrySettings, uri: str, manifest_sha256: str) -> str | None:
    """Sign an artifact by the key of the settings; a signature of the same key that holds stays.

    Returns:
        The id of the key; None where the settings name none.

    Raises:
        UserError: the key cannot be read.
    """
    if not settings.signing_key:
        return None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key: Any = _read(settings.signing_key, secret=True)
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{settings.signing_key} is no Ed25519 key", "make one: rayplat models key")
    name = _id(key.public_key())
    told = {"key": name, "signature": b64encode(key.sign(_SAYS + manifest_sha256.encode())).decode()}
    store, path = open_folders(uri)
    store.put(path, SIGNATURE, orjson.dumps(told))
    return name


def check(settings: RegistrySettings, uri: str, manifest_sha256: str) -> str | None:
    """Let an artifact pass only if a trusted key has signed it; the key's id.

    Where the settings trust no key in particular, everything passes, and the answer is None.

    Raises:
        IntegrityError: it is not signed, by no trusted key, or the signature does not hold.
        UserError: a trusted key cannot be read.
    """
    if not settings.trusted_keys:
        return None
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    trusted: dict[str, Ed25519PublicKey] = {}
    for file in settings.trusted_keys.split(","):
        key: Any = _read(file, secret=False)
        if not isinstance(key, Ed25519PublicKey):
            raise UserError(f"{file} is no Ed25519 public key", "give the .pub of rayplat models key")
        trusted[_id(key)] = key
    try:
        told = orjson.loads(read_file(uri, SIGNATURE))
        by, signature = str(told["key"]), b64decode(str(told["signature"]), validate=True)
    except NotFoundError as error:
        raise IntegrityError(f"{uri} is not signed", _MEND) from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"the signature of {uri} cannot be understood", _MEND) from error
    if by not in trusted:
        raise IntegrityError(f"{uri} is signed by the key {by}, which is not trusted", _MEND)
    try:
        trusted[by].verify(signature, _SAYS + manifest_sha256.encode())
    except InvalidSignature as error:
        raise IntegrityError(f"the signature of {uri} does not hold", _MEND) from error
    return by


def _read(file: str, *, secret: bool) -> Any:
    from cryptography.hazmat.primitives import serialization

    try:
        content = Path(file).read_bytes()
        if secret:
            return serialization.load_pem_private_key(content, None)
        return serialization.load_pem_public_key(content)
    except (OSError, ValueError, TypeError) as error:
        # The content is not told: it may be a secret.
        raise UserError(f"the key {file} cannot be read: {type(error).__name__}", "name a PEM file") from None


def _id(key: "Ed25519PublicKey") -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
