"""How many wrong passwords are taken, by account and by address, counted in Redis for all containers together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from flask import current_app
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from app import queue
from app.errors import Throttled

logger = structlog.get_logger(__name__)
T = TypeVar("T")

PER_ACCOUNT = RateLimitItemPerMinute(5, 15, namespace="login-account")
PER_ADDRESS = RateLimitItemPerMinute(30, 15, namespace="login-address")

# Where Redis is down, each process counts for itself: an admin who wants to see what is wrong can still sign in.
_own = MovingWindowRateLimiter(MemoryStorage())
# Then Redis is left alone for a while: a login must not wait for it again and again.
PAUSE_SECONDS = 10.0


def check_login(email: str, address: str) -> None:
    """Given a login about to be tried, count it for its account. Raise Throttled if there were too many."""
    if not _counting(lambda limiter: limiter.test(PER_ADDRESS, address)):
        raise _throttled(PER_ADDRESS, address)
    if not _counting(lambda limiter: limiter.hit(PER_ACCOUNT, email)):
        raise _throttled(PER_ACCOUNT, email)


def count_failure(address: str) -> None:
    """Given the address that a wrong password came from, count it."""
    _counting(lambda limiter: limiter.hit(PER_ADDRESS, address))


def forgive(email: str) -> None:
    """Given an account that was signed in to, forget its failures."""
    _counting(lambda limiter: limiter.clear(PER_ACCOUNT, email))


def _throttled(item: RateLimitItemPerMinute, name: str) -> Throttled:
    reset = _counting(lambda limiter: limiter.get_window_stats(item, name).reset_time)
    seconds = max(1, math.ceil(reset - time.time()))
    minutes = math.ceil(seconds / 60)
    unit = "minute" if minutes == 1 else "minutes"
    return Throttled(f"Too many wrong passwords. Try again in {minutes} {unit}.", seconds)


def _counting(ask: Callable[[MovingWindowRateLimiter], T]) -> T:
    extensions = current_app.extensions
    if time.monotonic() < extensions.get("login_limiter_pause", 0.0):
        return ask(_own)
    try:
        return ask(_shared())
    except RedisError as error:
        extensions["login_limiter_pause"] = time.monotonic() + PAUSE_SECONDS
        logger.warning("logins are counted by this process alone: Redis can't be reached", error=str(error))
        return ask(_own)


def _shared() -> MovingWindowRateLimiter:
    limiter = current_app.extensions.get("login_limiter")
    if not isinstance(limiter, MovingWindowRateLimiter):
        storage = RedisStorage("redis://", connection_pool=queue.connection().connection_pool)
        limiter = current_app.extensions["login_limiter"] = MovingWindowRateLimiter(storage)
    return limiter
