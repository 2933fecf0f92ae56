"""The embedded Valkey server."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import redis

from app.demo.servers import EmbeddedValkey, StackError


def test_server_answers_on_the_loopback_with_the_password_only(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.set("key", "value")
        assert client.get("key") == b"value"
    with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert valkey.pid is not None
    listening = {c.laddr.ip for c in psutil.Process(valkey.pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_password_is_not_in_the_arguments(valkey: EmbeddedValkey) -> None:
    assert valkey.pid is not None
    assert valkey.password not in " ".join(psutil.Process(valkey.pid).cmdline())
    assert (valkey.data_dir / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_each_test_gets_an_empty_database(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


@pytest.mark.parametrize("persist", [True, False])
def test_data_survives_a_restart_if_it_is_to_persist(tmp_path: Path, persist: bool) -> None:
    with EmbeddedValkey(tmp_path / "data", persist=persist) as server:
        with redis.Redis.from_url(server.url()) as client:
            client.set("key", "value")
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            assert client.get("key") == (b"value" if persist else None)


def test_killed_server_starts_again(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "data", persist=True) as server:
        server.crash()
        assert server.pid is None
        server.start()
        with redis.Redis.from_url(server.url()) as client:
            assert client.ping()


def test_taken_port_is_named_in_the_message(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="in use"):
        EmbeddedValkey(tmp_path / "data", port=valkey.port).start()
