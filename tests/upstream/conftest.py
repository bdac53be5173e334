"""What every test of the upstream floor needs: the adapter with its secrets and limits, an upstream, a call."""

from collections.abc import AsyncIterator

import pytest

from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.upstream.transport import Limits

LIMITS = Limits(call=5.0, connect=2.0, max_answer=100_000)


@pytest.fixture
def cipher() -> CredentialCipher:
    return CredentialCipher(bytes(range(32)))


@pytest.fixture
def limits() -> Limits:
    """Overridden by a test that needs others."""
    return LIMITS


@pytest.fixture
async def upstreams(cipher: CredentialCipher, limits: Limits) -> AsyncIterator[StreamableHttpUpstreams]:
    adapter = StreamableHttpUpstreams(AddressGuard(allow_private=True), cipher, limits)
    yield adapter
    await adapter.close()
