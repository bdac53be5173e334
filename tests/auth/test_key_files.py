"""Key files: made once, for their owner alone, and refused when others can read them."""

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sluicegate.auth.key_files import configured_keys, configured_secret, load_or_create_keys, load_or_create_secret
from sluicegate.core.errors import ConfigurationError
from tests.auth.forge import ED_SEED, SHARED, okp

JWKS = json.dumps({"keys": [okp("a", ED_SEED)]})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_makes_a_key_for_the_owner_alone_and_the_next_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jwt-keys.json"
    made = load_or_create_keys(path)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert load_or_create_keys(path).signing.kid == made.signing.kid
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    path = tmp_path / "data" / "jwt-keys.json"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_or_create_keys(path).signing.kid, range(8)))
    assert len(set(made)) == 1


def test_a_secret_file_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    secret = load_or_create_secret(path)
    assert (len(secret), mode(path)) == (32, 0o600)
    assert load_or_create_secret(path) == secret
    assert base64.b64decode(path.read_text()) == secret


@pytest.mark.parametrize("shared", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_can_open_is_refused_with_the_command_that_helps(tmp_path: Path, shared: int) -> None:
    path = tmp_path / "jwt-keys.json"
    path.write_text(JWKS)
    path.chmod(shared)
    for load in (load_or_create_keys, load_or_create_secret):
        with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
            load(path)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        configured_keys(str(path))


def test_a_broken_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jwt-keys.json"
    path.write_bytes(b"\xff")
    path.chmod(0o600)
    for load in (load_or_create_keys, load_or_create_secret):
        with pytest.raises(ConfigurationError, match="jwt-keys"):
            load(path)
    assert path.read_bytes() == b"\xff"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        load_or_create_keys(tmp_path / "file" / "jwt-keys.json")


def test_keys_are_configured_as_json_or_as_a_path(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(JWKS)
    path.chmod(0o600)
    assert configured_keys(JWKS).signing.kid == "a"
    assert configured_keys(str(path)).signing.kid == "a"


@pytest.mark.parametrize("setting", ["", "a-bare-value-in-the-wrong-form", "x" * 5000, "nul\0byte"])
def test_a_setting_that_is_neither_is_refused_without_being_shown(setting: str) -> None:
    with pytest.raises(ConfigurationError, match="SLUICEGATE_JWT_KEYS") as refused:
        configured_keys(setting)
    assert not setting or setting not in str(refused.value)


def test_a_configured_secret_is_32_bytes_in_either_alphabet() -> None:
    raw = b"\xfb\xff" + SHARED[:30]
    assert configured_secret(base64.b64encode(raw).decode()) == raw
    assert configured_secret(base64.urlsafe_b64encode(raw).decode() + "\n") == raw


@pytest.mark.parametrize(
    "setting, said",
    [
        ("", "0 bytes"),
        ("no base64!", "not base64"),
        ("§", "not base64"),
        (base64.b64encode(SHARED[:31]).decode(), "31 bytes"),
        (base64.b64encode(SHARED).decode(), "64 bytes"),
        (base64.b64encode(bytes(32)).decode(), "guessed"),
    ],
)
def test_a_bad_secret_is_refused_without_being_shown(setting: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as refused:
        configured_secret(setting)
    assert not setting or setting not in str(refused.value)
