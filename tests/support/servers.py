"""Private PostgreSQL and PgBouncer servers for tests: on free loopback ports, in a temp folder, gone at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from msgspec import Struct

INSTALL = "install postgresql and pgbouncer: `make test` does"
SUPERUSER = "sluicegate"
START_LIMIT = 30.0
"""Seconds for a server to start or stop."""

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "32MB"}
_PGBOUNCER_INI = """\
[databases]
* = host=127.0.0.1 port={postgres_port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = {user}
pool_mode = transaction
default_pool_size = 10
log_connections = 0
log_disconnections = 0
"""


class Server(Struct, frozen=True):
    """A running server: `pid` is the process to signal, `port` is on 127.0.0.1."""

    port: int
    pid: int

    def url(self, database: str) -> str:
        """The URL of a database behind this server."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgresql(**settings: object) -> Iterator[Server]:
    """A fresh cluster without durability; its superuser needs no password. `settings` are postgresql.conf's."""
    initdb = _postgresql_program("initdb")
    with _folder() as folder:
        data, port = folder / "data", free_port()
        _run(initdb, "-D", data, "-U", SUPERUSER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale", "C.UTF-8")
        ours = _FAST | {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder} | settings
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in ours.items())
        try:
            yield start_postgresql(data)
        finally:
            stop_postgresql(data, "immediate")


def start_postgresql(data: Path) -> Server:
    """Starts the cluster in the folder, which was stopped or is new; returns when it answers."""
    pg_ctl = _postgresql_program("pg_ctl")
    _run(pg_ctl, "-D", data, "-l", data.parent / "postgresql.log", "-t", int(START_LIMIT), "-w", "start")
    pid, _, _, port, *_ = (data / "postmaster.pid").read_text().splitlines()
    return Server(int(port), int(pid))


def stop_postgresql(data: Path, mode: str = "fast") -> None:
    """`fast` ends the connections and then the cluster; `immediate` is as a crash."""
    _run(_postgresql_program("pg_ctl"), "-D", data, "-t", int(START_LIMIT), "-m", mode, "-w", "stop")


@contextmanager
def standby(of: Server) -> Iterator[Server]:
    """A read replica of the cluster, from a backup taken now; `SELECT pg_promote()` ends its being one."""
    with _folder() as folder:
        data = folder / "data"
        backup = ("-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", of.url("postgres"))
        _run(_postgresql_program("pg_basebackup"), "-D", data, *backup)
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"port = {free_port()}\nunix_socket_directories = '{folder}'\n")
        try:
            yield start_postgresql(data)
        finally:
            stop_postgresql(data, "immediate")


@contextmanager
def pgbouncer(postgres: Server, port: int = 0, **settings: object) -> Iterator[Server]:
    """A PgBouncer in transaction mode before all databases of the cluster; on a free port unless one is given.

    `settings` are pgbouncer.ini's.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RuntimeError(f"pgbouncer is not installed. {INSTALL}")
    with _folder() as folder:
        port = port or free_port()
        config = folder / "pgbouncer.ini"
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        config.write_text(_PGBOUNCER_INI.format(port=port, postgres_port=postgres.port, user=SUPERUSER) + lines)
        with (folder / "pgbouncer.log").open("wb") as log:
            process = subprocess.Popen([program, config], stdout=log, stderr=log, cwd=folder, **_unprivileged())
        try:
            _wait_until_listening(port, process)
            yield Server(port, process.pid)
        finally:
            process.send_signal(signal.SIGCONT)  # a test may have left it stopped
            process.kill()
            process.wait(START_LIMIT)


@contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    """The name of a new, empty database in the cluster; dropped at the end, whoever is connected."""
    name = f"test_{uuid4().hex}"
    run_as_superuser(server, f"CREATE DATABASE {name}")
    try:
        yield name
    finally:
        run_as_superuser(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def dumped(server: Server, database: str) -> Iterator[Path]:
    """A backup of the database, by pg_dump."""
    with _folder() as folder:
        backup = folder / "backup"
        _run(_postgresql_program("pg_dump"), "--format=custom", "-f", backup, "-d", server.url(database))
        yield backup


def restore(server: Server, backup: Path, name: str) -> None:
    """Makes a database of this name from a backup, by pg_restore."""
    run_as_superuser(server, f"CREATE DATABASE {name}")
    _run(_postgresql_program("pg_restore"), "--exit-on-error", "-d", server.url(name), backup)


def run_as_superuser(server: Server, sql: str, database: str = "postgres") -> None:
    """Runs SQL outside a transaction of the driver; `server` is the cluster, not a PgBouncer."""
    with psycopg.connect(server.url(database), autocommit=True, connect_timeout=10) as connection:
        connection.execute(sql.encode())


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _postgresql_program(name: str) -> Path:
    by_version = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which(name)
    if by_version:
        return by_version[-1]
    if on_path is None:
        raise RuntimeError(f"postgresql is not installed. {INSTALL}")
    return Path(on_path)


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sluicegate-", ignore_cleanup_errors=True) as name:
        if account := _server_account():
            os.chown(name, account.pw_uid, account.pw_gid)
        yield Path(name)


def _server_account() -> pwd.struct_passwd | None:
    """Whom the servers run as: both refuse to run as root."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


def _unprivileged() -> dict[str, Any]:
    account = _server_account()
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def _run(program: Path, *arguments: object) -> None:
    """Runs to its end. Output goes to a file, not a pipe: a server that stays behind would hold the pipe open."""
    with tempfile.TemporaryFile() as output:
        command = [str(program), *map(str, arguments)]
        done = subprocess.run(
            command, stdout=output, stderr=output, cwd="/", timeout=2 * START_LIMIT, check=False, **_unprivileged()
        )
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{program.name} failed: {output.read().decode(errors='replace')[-2000:]}")


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"pgbouncer did not start on port {port}")
