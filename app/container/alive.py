"""The containers' health checks: cheap, since they create no app."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.error import URLError
from urllib.request import urlopen

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker
from rq_scheduler import Scheduler

from app.config import ConfigError, Settings, read_settings
from app.runs.queue import QUEUES

# An idle worker sends a heartbeat every 15 seconds.
WORKER_SILENT = timedelta(seconds=60)
TIMEOUT_SECONDS = 5


def is_alive(process: str) -> bool:
    """Return whether this host's "web", "worker" or "scheduler" is alive."""
    try:
        return PROCESSES[process]()
    except (RedisError, URLError, OSError, ConfigError):
        return False


def _web() -> bool:
    address = os.environ.get("HEALTH_URL") or "http://127.0.0.1:8000/healthz"
    with urlopen(address, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - our own web process
        return bool(answer.status == 200)


def _worker() -> bool:
    served: set[str] = set()
    for worker in Worker.all(connection=_redis()):
        beat = worker.last_heartbeat
        if worker.hostname == socket.gethostname() and beat is not None:
            moment = beat if beat.tzinfo else beat.replace(tzinfo=UTC)
            served |= set(worker.queue_names()) if datetime.now(UTC) - moment < WORKER_SILENT else set()
    return served >= set(QUEUES)


def _scheduler() -> bool:
    pattern = f"{Scheduler.redis_scheduler_namespace_prefix}{socket.gethostname()}.*"
    redis = _redis()
    return any(not redis.hexists(key, "death") for key in redis.scan_iter(match=pattern))


def _redis() -> Redis:
    settings: Settings = read_settings()
    return Redis.from_url(settings.redis_url, socket_connect_timeout=TIMEOUT_SECONDS, socket_timeout=TIMEOUT_SECONDS)


PROCESSES: Mapping[str, Callable[[], bool]] = {"web": _web, "worker": _worker, "scheduler": _scheduler}
