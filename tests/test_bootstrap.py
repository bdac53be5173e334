"""What must hold before the process listens; each rule ends the start with one sentence."""

import asyncio
import json
import signal

import pytest

from sluicegate import bootstrap
from sluicegate.bootstrap.gateway import end_if_failed
from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import Settings

SECRET = "MTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXY"
KEYS = json.dumps({"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": SECRET}]})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"host": "0.0.0.0"}, "generated key"),
        ({"host": "0.0.0.0", "jwt_keys": KEYS}, "SLUICEGATE_PUBLIC_URL"),
        ({"outage_bound": 1.0, "revocation_bound": 2.0}, "SLUICEGATE_OUTAGE_BOUND"),
        ({"public_url": "gateway.example.com"}, "https://gateway"),
        ({"public_url": "https://user@gateway.example.com"}, "https://gateway"),
        ({"public_url": "https://gateway.example.com:notaport"}, "https://gateway"),
        ({"public_url": "https://gateway.example.com/base"}, "without a path"),
        ({"allowed_hosts": ("https://gateway.example.com",)}, "leave scheme and port out"),
        ({"jwt_keys": "nonsense"}, "SLUICEGATE_JWT_KEYS"),
        ({"encryption_key": "c2hvcnQ="}, "32"),
        ({"database_url": "mysql://x/y"}, "mysql"),
        ({"database_direct_url": "postgresql://open-sesame@db/x"}, "SLUICEGATE_DATABASE_DIRECT_URL"),
        ({"database_url": "postgresql://db/x", "database_direct_url": "sqlite:///x"}, "SLUICEGATE_DATABASE_DIRECT_URL"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_unsafe_or_half_set_combination_does_not_start(tmp_path, settings, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        bootstrap.prepare(Settings(data_dir=tmp_path / "data", **settings))


def test_the_defaults_start_and_their_folder_is_private(tmp_path):
    bootstrap.prepare(Settings(data_dir=tmp_path / "data"))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


async def test_a_background_task_that_ends_by_itself_ends_the_worker():
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    try:
        cancelled = asyncio.create_task(asyncio.Event().wait())
        cancelled.add_done_callback(end_if_failed)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        assert not told.is_set(), "one that the end of the process cancels is no failure"
        asyncio.create_task(broken()).add_done_callback(end_if_failed)
        async with asyncio.timeout(10):
            await told.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def broken() -> None:
    raise RuntimeError("a bug")
