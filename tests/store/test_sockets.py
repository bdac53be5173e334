"""A server that vanished without a word is noticed by the socket: what libpq was told is what the kernel does."""

import socket

import pytest
from sqlalchemy import Connection

from sluicegate.store import SqlDatabase
from sluicegate.store.postgresql import DRIVER

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


def limits_of(connection: Connection) -> dict[str, int]:
    driver = connection.connection.driver_connection
    assert driver is not None
    with socket.socket(fileno=socket.dup(driver.fileno())) as taken:
        tcp = {
            "keepalives_idle": socket.TCP_KEEPIDLE,
            "keepalives_interval": socket.TCP_KEEPINTVL,
            "keepalives_count": socket.TCP_KEEPCNT,
            "tcp_user_timeout": socket.TCP_USER_TIMEOUT,
        }
        found = {name: taken.getsockopt(socket.IPPROTO_TCP, option) for name, option in tcp.items()}
        return found | {"keepalives": taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)}


async def test_each_connection_has_deadlines_in_the_kernel(database: SqlDatabase) -> None:
    for found in (await database.read(limits_of), await database.upkeep(limits_of, 5.0)):
        assert found == {name: DRIVER[name] for name in found}
        assert all(found.values()), "0 is the system's own, of minutes and hours"
        assert found["tcp_user_timeout"] <= 3000
        assert found["keepalives_idle"] + found["keepalives_interval"] * found["keepalives_count"] <= 15
