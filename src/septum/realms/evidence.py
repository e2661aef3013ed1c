"""What separates a realm from the others on this platform, as a statement that can be checked without the platform.

The platform says it, and its key proves that it said so: an owner who keeps statements can hold it to them. The head of
the audit chain in a statement commits the platform to all that was recorded before. What a statement does not prove is
that the host runs the software that makes it: that takes a measured boot.
"""

from __future__ import annotations

import base64
import os
import time
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from septum import jsontext
from septum.errors import Denied, HostError, Unenforceable
from septum.realms.caller import Caller, absent
from septum.realms.core import Core
from septum.realms.model import Evidence
from septum.realms.of_doors import of_realm

__all__ = ["FORMAT", "KEY", "PlatformKey", "give", "verify"]

FORMAT: Final = "septum-evidence-1"
KEY: Final = "evidence.key"
"""Name of the private key in the state folder; 32 bytes."""


class PlatformKey:
    """Implements `septum.realms.core.Signer` by a key in a file, made with the first use.

    Args:
        folder: of the ledger.

    Raises:
        HostError: the file can't be read or made.
        Denied: it is not a key, or others may read it.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, KEY)
        try:
            raw = _read(path)
            if not raw:
                self._make(path)
                raw = _read(path)
        except OSError as error:
            raise HostError(
                f"the platform's key can't be used: {error.strerror}", errno=error.errno or 0, target=path
            ) from error
        if len(raw) != 32:
            raise Denied("the platform's key is damaged", target=path, rule="32 bytes, readable by its owner alone")
        self._key = Ed25519PrivateKey.from_private_bytes(raw)
        self.public = base64.b64encode(self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def sign(self, text: bytes) -> str:
        """The signature, base64."""
        return base64.b64encode(self._key.sign(text)).decode()

    def _make(self, path: str) -> None:
        part = f"{path}.{os.getpid()}"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            raw = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            os.write(fd, raw)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(part, path)
        finally:
            os.unlink(part)


def give(core: Core, caller: Caller, realm: str, nonce: str) -> Evidence:
    """A statement about a realm.

    Args:
        nonce: the caller's, so that the statement is known to be fresh.

    Raises:
        NotFound: the realm is not the caller's.
        Unenforceable: this daemon has no key to sign with.
        LedgerError: the ledger can't be read.
    """
    core.permit(caller, (f"realm:{realm}", "getattr"), (f"realm:{realm}", "audit_read"))
    row = core.ledger.realm(realm)
    if row is None:
        raise absent()
    if core.signer is None:
        raise Unenforceable("this daemon has no key to sign with")
    seq, digest = core.ledger.audit_head()
    guests = core.ledger.guests(realm=realm)
    statement: dict[str, Any] = {
        "format": FORMAT,
        "time": time.time(),
        "nonce": nonce,
        "platform": core.ledger.identity(),
        "realm": realm,
        "categories": list(row.categories),
        "policy": dict(core.policy()),
        "guests": [
            {
                "name": one.name,
                "uuid": one.uuid,
                "incarnation": one.incarnation,
                "level": one.level,
                "uid": one.uid,
                "drivers": list(one.drivers),
                "state": one.state,
            }
            for one in guests
        ],
        "doors": [msgspec.to_builtins(one) for one in of_realm(core, realm)],
        "audit": {"records": seq, "digest": digest},
    }
    text = jsontext.canonical(statement)
    return Evidence(statement=text, key=core.signer.public, signature=core.signer.sign(text.encode()))


def verify(evidence: Evidence, key: str) -> dict[str, Any]:
    """Checks a statement; needs nothing of the platform.

    Args:
        evidence: as it was given.
        key: the platform's public key, which the verifier has from elsewhere.

    Returns:
        What is stated.

    Raises:
        Denied: another key has signed it, it was changed, or it is no statement.
    """
    if evidence.key != key:
        raise Denied("another key has signed this", holder=evidence.key, rule=f"the platform's key is {key}")
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
        public.verify(base64.b64decode(evidence.signature, validate=True), evidence.statement.encode())
        statement = jsontext.Decoder()(evidence.statement)
    except (InvalidSignature, ValueError) as error:
        raise Denied(
            "this was not signed by that key, or was changed since", rule="Ed25519 over the statement"
        ) from error
    if not isinstance(statement, dict) or statement.get("format") != FORMAT:
        raise Denied("this is no statement of a platform", rule=f"its format is {FORMAT}")
    return statement


def _read(path: str) -> bytes:
    """The key's bytes, or nothing if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, 64) if not os.fstat(fd).st_mode & 0o077 else b"?"
    finally:
        os.close(fd)
