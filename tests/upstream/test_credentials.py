"""Credentials at rest: only our key opens them, only for the row they were sealed for."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.core.catalog import BearerAuth
from sluicegate.core.errors import ConfigurationError, InvalidInput, UpstreamFailed
from sluicegate.core.identity import UpstreamId
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import ID, call, upstream_at

SECRET = "sk-live_123/+~.="
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)


@given(visible)
def test_a_secret_comes_back_as_it_was(secret: str) -> None:
    cipher = CredentialCipher(bytes(32))
    sealed = cipher.seal(ID, secret)
    assert cipher.open(ID, sealed) == secret


def test_a_sealed_credential_does_not_show_its_secret_and_never_looks_the_same(cipher: CredentialCipher) -> None:
    first, second = cipher.seal(ID, SECRET), cipher.seal(ID, SECRET)
    assert first != second
    assert SECRET not in first
    assert SECRET.encode() not in base64.urlsafe_b64decode(first.split(".")[2])


def test_it_does_not_open_for_another_upstream(cipher: CredentialCipher) -> None:
    with pytest.raises(UpstreamFailed, match="belongs to another upstream"):
        cipher.open(UpstreamId("ups_other"), cipher.seal(ID, SECRET))


def test_it_does_not_open_with_another_key(cipher: CredentialCipher) -> None:
    with pytest.raises(UpstreamFailed, match="another SLUICEGATE_ENCRYPTION_KEY") as caught:
        CredentialCipher(bytes(32)).open(ID, cipher.seal(ID, SECRET))
    assert caught.value.code == "credential_unreadable"


@given(st.data())
def test_no_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    cipher = CredentialCipher(bytes(32))
    sealed = cipher.seal(ID, SECRET)
    at = data.draw(st.integers(0, len(sealed) - 1))
    character = data.draw(st.sampled_from("ABab01.-_=+/ \n"))
    changed = sealed[:at] + character + sealed[at + 1 :]
    if changed != sealed:
        with pytest.raises(UpstreamFailed):
            cipher.open(ID, changed)


@pytest.mark.parametrize("sealed", ["", "v1", "v1.", "v2.x.y", "v1..", "garbage", "v1.é.x"])
def test_garbage_is_refused_in_the_same_way(sealed: str, cipher: CredentialCipher) -> None:
    with pytest.raises(UpstreamFailed):
        cipher.open(ID, sealed)


def test_a_text_cut_short_is_refused(cipher: CredentialCipher) -> None:
    sealed = cipher.seal(ID, SECRET)
    key_part = sealed.rpartition(".")[0]
    for text in ("", "AAAA", "A" * 16, "A" * 20):
        with pytest.raises(UpstreamFailed):
            cipher.open(ID, f"{key_part}.{text}")


@pytest.mark.parametrize("secret", ["", "a b", "a\r\nX: y", "a\0", "é", "x" * 8193])
def test_a_secret_that_no_header_can_carry_is_not_accepted(secret: str, cipher: CredentialCipher) -> None:
    with pytest.raises(InvalidInput, match="visible ASCII") as caught:
        cipher.seal(ID, secret)
    assert caught.value.code == "invalid_credential"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_stops_the_start(length: int) -> None:
    with pytest.raises(ConfigurationError):
        CredentialCipher(bytes(length))


async def test_a_call_with_a_credential_that_cannot_be_opened_fails_and_says_what_to_do(
    upstreams: StreamableHttpUpstreams,
) -> None:
    sealed = CredentialCipher(bytes(32)).seal(ID, SECRET)
    with pytest.raises(UpstreamFailed, match="set the credential again"):
        await upstreams.call_tool(upstream_at("http://127.0.0.1:9/", None, BearerAuth(sealed)), call())
