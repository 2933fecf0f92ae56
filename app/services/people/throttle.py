"""Limit wrong passwords, counted in Redis across all containers.

Three counts, so that a stranger can't lock anybody out (OWASP: "device cookies"):
- a sign-in from a device that has signed in before is counted by that device alone;
- any other sign-in by account and address together, by address, and, with a far higher limit, by account;
- the password asked for again inside a session by that session alone.
What a client sent never becomes part of a key as it is; keys contain its SHA-256.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from flask import current_app
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from app.errors import Throttled
from app.runs import queue

logger = structlog.get_logger(__name__)
T = TypeVar("T")

MINUTES = 15
PER_PAIR = RateLimitItemPerMinute(5, MINUTES, namespace="login-pair")
PER_ADDRESS = RateLimitItemPerMinute(30, MINUTES, namespace="login-address")
# Guesses from many addresses at once. Exhausting it shuts out new devices only; `flask admin unlock` resets it.
PER_ACCOUNT = RateLimitItemPerMinute(100, MINUTES, namespace="login-account")
PER_DEVICE = RateLimitItemPerMinute(5, MINUTES, namespace="login-device")
PER_SESSION = RateLimitItemPerMinute(5, MINUTES, namespace="reauthentication")

# While Redis is down, each process counts for itself, so that an admin can still sign in to find out what is wrong.
_own = MovingWindowRateLimiter(MemoryStorage())
# Redis is then not contacted for a while, so that logins don't wait for it repeatedly.
PAUSE_SECONDS = 10.0
_UNLOCKED = "login-unlocked:"


@dataclass(frozen=True)
class Visitor:
    """The origin of a sign-in. `device` is the id in the device's cookie if that is valid and belongs to this account."""

    address: str
    device: str | None = None


def check_login(email: str, visitor: Visitor) -> None:
    """Count a sign-in before it is attempted. Raise Throttled if there were too many."""
    since = _unlocked_at(email)
    if visitor.device is not None:
        _hit(PER_DEVICE, _key(email, visitor.device, since))
        return
    address = _key(visitor.address, since)
    if not _counting(lambda limiter: limiter.test(PER_ADDRESS, address)):
        raise _throttled(PER_ADDRESS, address)
    _hit(PER_PAIR, _key(email, visitor.address, since))
    _hit(PER_ACCOUNT, _key(email, since))


def count_failure(email: str, visitor: Visitor) -> None:
    """Count a wrong password for its address; a known device is counted separately."""
    if visitor.device is None:
        address = _key(visitor.address, _unlocked_at(email))
        _counting(lambda limiter: limiter.hit(PER_ADDRESS, address))


def forgive(email: str, visitor: Visitor) -> None:
    """Reset the failures of whoever has just signed in; those of others at the same account stay counted."""
    since = _unlocked_at(email)
    item = PER_PAIR if visitor.device is None else PER_DEVICE
    key = _key(email, visitor.device or visitor.address, since)
    _counting(lambda limiter: limiter.clear(item, key))


def check_again(session_id: str) -> None:
    """Count a re-entered password of a session. Raise Throttled if too many were wrong."""
    _hit(PER_SESSION, _key(session_id))


def forgive_again(session_id: str) -> None:
    """Reset a session's count of wrong passwords."""
    _counting(lambda limiter: limiter.clear(PER_SESSION, _key(session_id)))


def unlock(email: str) -> None:
    """Reset all counts of wrong passwords for an account. Raise QueueUnavailable.

    The counts can't be listed, since their keys are hashes. The time of the unlocking becomes part of the keys instead, so
    that earlier counts are no longer found.
    """
    try:
        queue.connection().set(_UNLOCKED + _key(email), str(time.time_ns()), ex=2 * MINUTES * 60)
    except RedisError as error:
        raise queue.QueueUnavailable("Redis (REDIS_URL) can't be reached, so nothing was unlocked. Try again.") from error


def _unlocked_at(email: str) -> str:
    if time.monotonic() < current_app.extensions.get("login_limiter_pause", 0.0):
        return ""
    try:
        found = queue.connection().get(_UNLOCKED + _key(email))
    except RedisError:
        return ""
    return found.decode() if isinstance(found, bytes) else ""


def _key(*parts: str) -> str:
    """Return a key of fixed length: what a client sends may have any length and contain any character."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _hit(item: RateLimitItemPerMinute, key: str) -> None:
    if not _counting(lambda limiter: limiter.hit(item, key)):
        raise _throttled(item, key)


def _throttled(item: RateLimitItemPerMinute, key: str) -> Throttled:
    reset = _counting(lambda limiter: limiter.get_window_stats(item, key).reset_time)
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
        logger.warning("Redis can't be reached; logins are counted in this process only", error=str(error))
        return ask(_own)


def _shared() -> MovingWindowRateLimiter:
    limiter = current_app.extensions.get("login_limiter")
    if not isinstance(limiter, MovingWindowRateLimiter):
        storage = RedisStorage("redis://", connection_pool=queue.connection().connection_pool)
        limiter = current_app.extensions["login_limiter"] = MovingWindowRateLimiter(storage)
    return limiter
