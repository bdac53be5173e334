import socket

import pytest

from sluicegate.cli.serve import checked_address
from sluicegate.core.errors import ConfigurationError
from tests.cli.conftest import Run


def test_a_port_that_is_free_is_taken() -> None:
    host, port = checked_address("127.0.0.1", 0)
    assert host == "127.0.0.1"
    assert checked_address("localhost", port) in (("127.0.0.1", port), ("::1", port))


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError) as refused:
            checked_address("127.0.0.1", port)
    assert str(refused.value) == f"port {port} on 127.0.0.1 is in use: choose another with --port"


def test_a_port_that_another_gateway_would_share_counts_as_in_use() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=True) as other,
        pytest.raises(ConfigurationError, match="is in use"),
    ):
        checked_address("127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"`{host}` is not an address of this machine: choose another"):
        checked_address(host, 0)


def test_it_does_not_listen_beyond_loopback_with_a_key_it_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_HOST", "127.0.0.1")  # so that what `--host` puts there is undone
    result = run("serve", "--host", "0.0.0.0")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: refusing to listen on 0.0.0.0 with a generated key: set SLUICEGATE_JWT_KEYS, or use 127.0.0.1\n"
    )


def test_a_wrong_option_ends_with_code_2(run: Run) -> None:
    assert run("serve", "--workers", "0").exit_code == 2
    assert run("serve", "--port", "70000").exit_code == 2
