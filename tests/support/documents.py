"""A small documents folder, the same every time."""

from __future__ import annotations

import os
import random
from pathlib import Path


def write_documents(folder: Path, users: int = 3, per_user: int = 4, seed: int = 7) -> list[Path]:
    """Fill a folder with `<user>/<file>`: text, incompressible bytes, an empty file, an empty folder and an
    inner symlink for each user. Return the regular files.
    """
    chance = random.Random(seed)
    files = []
    for user in range(1, users + 1):
        home = folder / str(user)
        (home / "empty").mkdir(parents=True, exist_ok=True)
        for number in range(per_user):
            kind = number % 3
            path = home / f"{('invoice', 'photo', 'note')[kind]}-{number}.{('txt', 'jpg', 'md')[kind]}"
            size = chance.randrange(200, 40_000)
            content = (
                chance.randbytes(size) if kind == 1 else (f"Oil change {number}, user {user}\n" * (size // 20)).encode()
            )
            path.write_bytes(content)
            stamp = 1_700_000_000 + chance.randrange(10_000_000)
            os.utime(path, ns=(stamp * 10**9, stamp * 10**9))
            files.append(path)
        hollow = home / "nothing.txt"
        hollow.touch()
        files.append(hollow)
        (home / "latest.txt").symlink_to("invoice-0.txt")
    return files
