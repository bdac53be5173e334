"""Tokens that this gateway never issued, or never would."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.auth import forge
from tests.e2e.running import Gateway, Tokens, claims_of, unb64

Forge = Callable[[Gateway, Tokens], str]


def forged(
    payload: dict[str, Any] | None = None, header: dict[str, Any] | None = None, seed: bytes | None = None
) -> Forge:
    """alice's token with these changes, signed with the gateway's own key unless another one is given."""

    def make(gateway: Gateway, tokens: Tokens) -> str:
        jwk = signing_key(gateway)
        changed_header = {"alg": "EdDSA", "kid": jwk["kid"], "typ": "at+jwt"} | (header or {})
        changed_payload = claims_of(tokens.alice) | (payload or {})
        return forge.sealed(
            json.dumps(changed_header).encode(), json.dumps(changed_payload).encode(), seed or unb64(jwk["d"])
        )

    return make


def signing_key(gateway: Gateway) -> dict[str, str]:
    file = Path(gateway.environment["SLUICEGATE_DATA_DIR"]) / "jwt-keys.json"
    key: dict[str, str] = json.loads(file.read_text())["keys"][0]
    return key
