"""What must hold before the process listens; each rule ends the start with one sentence."""

import json

import pytest

from sluicegate import bootstrap
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
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_unsafe_or_half_set_combination_does_not_start(tmp_path, settings, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        bootstrap.prepare(Settings(data_dir=tmp_path / "data", **settings))


def test_the_defaults_start_and_their_folder_is_private(tmp_path):
    bootstrap.prepare(Settings(data_dir=tmp_path / "data"))
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
