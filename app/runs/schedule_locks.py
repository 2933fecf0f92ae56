"""The Redis locks `backup:schedule:{schedule_id}`: while one container makes a schedule's backup, the others skip it.

They only help: that a slot is filled once is decided in PostgreSQL. A lock that is lost is taken again if it is free, since
a restarted Redis must not cost a long backup; only when another holds it, the run is over.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable

import structlog
from redis import Redis
from redis.exceptions import LockError, RedisError, WatchError
from redis.lock import Lock

logger = structlog.get_logger(__name__)

TTL_SECONDS = 300.0
# Renewed so often that several renewals may fail before the lock runs out.
RENEWALS_PER_TTL = 10


class ScheduleLockLost(Exception):
    """Another container holds a schedule's lock by now: it makes the backup."""


def name_of(schedule_id: uuid.UUID) -> str:
    """Given a schedule, return the name of its lock."""
    return f"backup:schedule:{schedule_id}"


class ScheduleLocks:
    """The locks of a run's schedules, kept alive by a thread until `release`.

    They bear the name of the backup that they are for. The caller must be the only run of it that lives (it holds the
    run's lock in PostgreSQL): one that is found with that name was left by a run that died, and is taken over at once.
    """

    def __init__(self, redis: Redis, ttl: float | None = None, backup_id: uuid.UUID | None = None) -> None:
        self._redis = redis
        self._ttl = ttl or TTL_SECONDS
        self._name = f"{(backup_id or uuid.uuid4()).hex}:"
        self._token = f"{self._name}{uuid.uuid4().hex}"
        self._locks: dict[uuid.UUID, Lock] = {}
        self._guard = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost = ""

    def take(self, schedule_ids: Iterable[uuid.UUID]) -> bool:
        """Given schedules, take their locks and keep them. Return False, holding none, if another holds one of them.

        Where Redis can't be reached the locks count as lost, and are taken when it is back.
        """
        for schedule_id in schedule_ids:
            lock = Lock(self._redis, name_of(schedule_id), timeout=self._ttl, thread_local=False)
            try:
                taken = bool(lock.acquire(blocking=False, token=self._token)) or self._take_over(lock)
            except RedisError as error:
                logger.warning("schedule lock not taken: Redis can't be reached", error=str(error))
                lock.local.token = self._token.encode()
                taken = True
            if not taken:
                self.release()
                return False
            with self._guard:
                self._locks[schedule_id] = lock
        if self._locks and self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="schedule locks", daemon=True)
            self._thread.start()
        return True

    def check(self) -> None:
        """Raise ScheduleLockLost if another container was seen to hold one of the locks."""
        if self._lost:
            raise ScheduleLockLost(self._lost)

    def ensure(self) -> None:
        """Renew the locks now, before publishing. Raise ScheduleLockLost if another holds one of them."""
        self._renew()
        self.check()

    def release(self) -> None:
        """Give the locks back that are still ours, and end the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._guard:
            for lock in self._locks.values():
                try:
                    lock.release()
                except (LockError, RedisError):
                    continue
            self._locks.clear()
        self._stopped.clear()

    def _take_over(self, lock: Lock) -> bool:
        """Take the lock if a run of this backup left it; whoever changes it meanwhile keeps it."""
        with self._redis.pipeline() as pipe:
            try:
                pipe.watch(lock.name)
                left = pipe.get(lock.name) or b""
                if not (left if isinstance(left, bytes) else left.encode()).startswith(self._name.encode()):
                    return False
                pipe.multi()
                pipe.set(lock.name, self._token, px=int(self._ttl * 1000))
                pipe.execute()
            except WatchError:
                return False
        logger.warning("schedule lock taken over from a lost run of the same backup", name=str(lock.name))
        lock.local.token = self._token.encode()
        return True

    def _keep(self) -> None:
        while not self._stopped.wait(self._ttl / RENEWALS_PER_TTL):
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            for schedule_id, lock in self._locks.items():
                try:
                    if not self._still_ours(lock):
                        self._lost = (
                            f"Another container has taken over this schedule's lock ({name_of(schedule_id)}) and makes the "
                            "backup: this run publishes nothing."
                        )
                        return
                except RedisError as error:
                    logger.warning("schedule lock not renewed: Redis can't be reached", error=str(error))

    def _still_ours(self, lock: Lock) -> bool:
        """Extend the lock, or take it again if it is free."""
        try:
            lock.extend(self._ttl, replace_ttl=True)
        except LockError:
            if lock.acquire(blocking=False, token=self._token):
                logger.warning("schedule lock was lost and taken again", name=str(lock.name))
            elif not lock.owned():
                return False
        return True
