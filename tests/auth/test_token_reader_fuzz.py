"""Whatever the text, the reader and the authenticator answer with a refusal of theirs, never with another exception."""

import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from sluicegate.auth.strict import base64url, canonical_base64url
from sluicegate.auth.tokens import read_claims, read_header
from sluicegate.core.errors import Unauthenticated
from tests.auth.forge import HEADER, NOW, VERIFIER, b64, claims, sealed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
claim_names = st.sampled_from([*claims(), "nbf", "teams", "scopes", "token_use", "servers", "permissions"])
claim_sets = st.dictionaries(claim_names, json_values | st.dictionaries(claim_names, json_values, max_size=3))
token_like = st.lists(st.binary(max_size=60).map(b64) | st.text(max_size=20), max_size=6).map(".".join)


@given(st.text() | token_like)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(Unauthenticated):
        assert read_header(text).keys() == HEADER.keys()


@given(json_values | st.fixed_dictionaries(dict.fromkeys(HEADER, json_values)))
def test_any_header_under_a_good_signature_is_verified_or_refused(header: object) -> None:
    with suppress(Unauthenticated):
        VERIFIER.verify(sealed(json.dumps(header).encode(), json.dumps(claims()).encode()), NOW)
        assert header == HEADER


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    with suppress(Unauthenticated):
        assert read_claims(payload).sub


@given(claim_sets)
def test_any_claims_under_a_good_signature_are_verified_or_refused(changes: dict[str, object]) -> None:
    merged = claims() | changes
    with suppress(Unauthenticated):
        verified = VERIFIER.verify(sealed(json.dumps(HEADER).encode(), json.dumps(merged).encode()), NOW)
        assert (verified.subject, verified.token_id) == (merged["sub"], merged["jti"])
        assert verified.expires_at > NOW


@given(st.binary())
def test_bytes_have_one_spelling_in_base64url(raw: bytes) -> None:
    assert canonical_base64url(base64url(raw)) == raw


@given(st.text(alphabet="ABab01-_+/=. \n", max_size=12))
def test_a_text_is_the_spelling_of_its_bytes_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert base64url(canonical_base64url(text)) == text
