"""Upstream credentials at rest: AES-256-GCM (NIST SP 800-38D), bound to the row and the column they were sealed for."""

import base64
import hashlib
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sluicegate.core.errors import ConfigurationError, InvalidInput, UpstreamFailed
from sluicegate.core.identity import UpstreamId

_FORMAT = "v1"
_NONCE = 12
_COLUMN = "auth"
_MAX_SECRET = 8192
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")


class CredentialCipher:
    """Implements `ports.CredentialSealer`. A sealed credential reads `v1.KEYID.BASE64URL(nonce, ciphertext, tag)`."""

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ConfigurationError("SLUICEGATE_ENCRYPTION_KEY must be 32 bytes, in base64")
        self._key_id = hashlib.sha256(b"sluicegate credential key id" + key).hexdigest()[:16]
        self._cipher = AESGCM(key)

    def seal(self, upstream_id: UpstreamId, secret: str) -> str:
        """The sealed form; opening it for another upstream fails. Raises InvalidInput if no header can carry it."""
        if len(secret) > _MAX_SECRET or not _HEADER_SAFE.fullmatch(secret):
            raise InvalidInput(
                f"a bearer credential is 1 to {_MAX_SECRET} visible ASCII characters without blanks",
                code="invalid_credential",
            )
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode("ascii"), _bound_to(upstream_id))
        return f"{_FORMAT}.{self._key_id}.{base64.urlsafe_b64encode(sealed).decode('ascii')}"

    def open(self, upstream_id: UpstreamId, sealed: str) -> str:
        """The secret. Raises UpstreamFailed when it was sealed with another key or for another row, or was changed."""
        version, _, rest = sealed.partition(".")
        key_id, _, text = rest.partition(".")
        if version != _FORMAT or key_id != self._key_id:
            raise _unreadable(upstream_id, "it was sealed with another SLUICEGATE_ENCRYPTION_KEY")
        try:
            blob = base64.urlsafe_b64decode(text)
            if base64.urlsafe_b64encode(blob).decode("ascii") != text:
                raise ValueError("not the form that we write")
            return self._cipher.decrypt(blob[:_NONCE], blob[_NONCE:], _bound_to(upstream_id)).decode("ascii")
        except (InvalidTag, ValueError):
            raise _unreadable(upstream_id, "it was changed, or belongs to another upstream") from None


def _bound_to(upstream_id: UpstreamId) -> bytes:
    return f"{upstream_id}\0{_COLUMN}".encode()


def _unreadable(upstream_id: UpstreamId, why: str) -> UpstreamFailed:
    text = f"the credential of upstream {upstream_id} cannot be opened: {why}; set the credential again"
    return UpstreamFailed(text, code="credential_unreadable")
