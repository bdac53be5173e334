"""Where keys come from: a setting, or a file that only its owner can read, made on the first start."""

import base64
import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from sluicegate.auth.keys import KeySet, generated_jwk_set, is_guessable, key_set
from sluicegate.core.errors import ConfigurationError

SECRET_LENGTH = 32
"""Bytes of the key that seals upstream credentials (AES-256)."""
MAX_FILE = 64 * 1024
"""Bytes of a key file."""


def configured_keys(setting: str) -> KeySet:
    """The keys of `SLUICEGATE_JWT_KEYS`: a JWK Set as JSON, or the path of one. Raises ConfigurationError."""
    if setting.lstrip().startswith("{"):
        return key_set(setting)
    try:
        found = Path(setting).is_file()
    except OSError:  # too long for a name
        found = False
    if not found:  # the value is not named: it may be a secret in the wrong form
        raise ConfigurationError("SLUICEGATE_JWT_KEYS is neither a JWK Set as JSON nor the path of a file")
    return _keys_in(Path(setting))


def load_or_create_keys(path: Path) -> KeySet:
    """The keys in this file, which is made with one new Ed25519 key if it is not there. Raises ConfigurationError."""
    _create_once(path, generated_jwk_set)
    return _keys_in(path)


def configured_secret(setting: str) -> bytes:
    """The 32 bytes of `SLUICEGATE_ENCRYPTION_KEY`. Raises ConfigurationError."""
    return _secret(setting, "SLUICEGATE_ENCRYPTION_KEY")


def load_or_create_secret(path: Path) -> bytes:
    """The 32 bytes in this file, as base64; the file is made with random ones if it is not there."""
    _create_once(path, lambda: base64.b64encode(secrets.token_bytes(SECRET_LENGTH)).decode())
    return _secret(_read_private(path), f"key file {path}")


def _keys_in(path: Path) -> KeySet:
    try:
        return key_set(_read_private(path))
    except ConfigurationError as error:
        raise ConfigurationError(f"key file {path}: {error}") from None


def _secret(text: str, name: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip().encode().translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except ValueError:
        raise ConfigurationError(f"{name} is not base64: generate one with `openssl rand -base64 32`") from None
    if len(raw) != SECRET_LENGTH:
        raise ConfigurationError(f"{name} has {len(raw)} bytes, not 32: generate one with `openssl rand -base64 32`")
    if is_guessable(raw):
        raise ConfigurationError(f"{name} is a sample or can be guessed: generate one with `openssl rand -base64 32`")
    return raw


def _create_once(path: Path, content: Callable[[], str]) -> None:
    """Makes the file complete or not at all. Of several processes that start together, one makes it and all read it."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(content() + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename, this never replaces what another process made
        finally:
            draft.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        raise ConfigurationError(f"key file {path} cannot be made: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigurationError(f"{path} is not a regular file")
            if status.st_mode & 0o077:
                raise ConfigurationError(f"{path} can be read by others: run `chmod 600 {path}`")
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise ConfigurationError(f"{path} is larger than {MAX_FILE} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not text") from None
