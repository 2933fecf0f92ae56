"""The locks of schedules, in Redis under `backup:schedule:{schedule_id}`: while one container makes a schedule's backup, the
others skip it.

They only save work; PostgreSQL decides that a slot is filled once. They are leases, which a thread renews. A lease that was
lost is taken again if it is free, so that a restart of Redis does not cost a long backup. The run ends only if another
container has it.
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
# Several renewals may fail before the lock expires.
RENEWALS_PER_TTL = 10


class ScheduleLockLost(Exception):
    """Another container has taken a schedule's lock, and makes the backup."""


def name_of(schedule_id: uuid.UUID) -> str:
    """Return the name of a schedule's lock."""
    return f"backup:schedule:{schedule_id}"


class ScheduleLocks:
    """The locks of a run's schedules, renewed by a thread until `release`. `ttl` is in seconds.

    They carry the id of their backup. The caller holds the backup's run lock in PostgreSQL, so no other run of it is alive:
    a lock with the same id was left behind by a run that died, and is taken over at once.
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
        """Take the locks of these schedules. Return False, holding none, if another container has one of them.

        If Redis can't be reached, the locks count as lost, and are taken when it is back.
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
            self._thread = threading.Thread(target=self._renew_until_released, name="schedule locks", daemon=True)
            self._thread.start()
        return True

    def check(self) -> None:
        """Raise ScheduleLockLost if a renewal found one of the locks taken by another container."""
        if self._lost:
            raise ScheduleLockLost(self._lost)

    def ensure(self) -> None:
        """Renew the locks now, before publishing. Raise ScheduleLockLost if another container has one of them."""
        self._renew()
        self.check()

    def release(self) -> None:
        """Release the locks that are still ours, and end the thread."""
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
        """Take the lock if a dead run of this backup left it, unless somebody changes it meanwhile."""
        with self._redis.pipeline() as pipe:
            try:
                pipe.watch(lock.name)  # type: ignore[no-untyped-call]
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

    def _renew_until_released(self) -> None:
        while not self._stopped.wait(self._ttl / RENEWALS_PER_TTL):
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            for schedule_id, lock in self._locks.items():
                try:
                    if not self._still_ours(lock):
                        self._lost = (
                            f"Another container has taken over this schedule's lock ({name_of(schedule_id)}) and makes the "
                            "backup, so this run publishes nothing."
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
                logger.warning("schedule lock lost and taken again", name=str(lock.name))
            elif not lock.owned():
                return False
        return True
