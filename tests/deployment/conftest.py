"""An engine with the image that the Dockerfile makes, and stacks in it. Everything is gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deployment import base_images
from tests.deployment.engine import Engine, EngineError, what_is_missing
from tests.deployment.stack import Stack, clone

REQUIRED = "MVP_DOCKER_REQUIRED"
# For whoever works on these tests: a folder that keeps the base images from one run to the next.
KEPT = "MVP_DOCKER_FOLDER"
FIRST_PORT = 21000


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A running engine with the project's image, built as the README says; skips where this machine can't have one."""
    kept = os.environ.get(KEPT)
    folder = Path(kept or tempfile.mkdtemp(prefix="mvp-docker-"))
    made = Engine(folder)
    try:
        reason = what_is_missing(folder)
        if reason is None and base_images.python_prefix() is None:
            reason = "there is no CPython here that could be copied into an image"
        if reason is not None:
            if os.environ.get(REQUIRED):
                pytest.fail(f"{REQUIRED} is set, but {reason}")
            pytest.skip(reason)
        made.add_compose()
        made.start(with_network=False)
        if made.docker("image", "inspect", "valkey/valkey:9", check=False).returncode:
            base_images.build(made)
        shutil.rmtree(folder / "project", ignore_errors=True)
        made.docker("build", "--network", "host", "-t", "motovaultpro-backup", str(clone(folder / "project")))
        made.stop()
        made.start(with_network=True)
        yield made
    finally:
        made.stop()
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def make_stack(engine: Engine) -> Iterator[Callable[..., Stack]]:
    """A function that makes a stack, not started yet, in a folder of the given name; all of them end with the test."""
    made: list[Stack] = []
    folder = Path(tempfile.mkdtemp(prefix="stacks-", dir=engine.folder))

    def make(name: str = "motovaultpro-backup", port: int = FIRST_PORT) -> Stack:
        stack = Stack(engine, folder / name, port)
        made.append(stack)
        return stack

    yield make
    # A machine that is gone has nothing left to end.
    for stack in [stack for stack in made if stack.folder.exists()]:
        try:
            stack.down("-v")
        except EngineError as error:
            print(error)
    shutil.rmtree(folder, ignore_errors=True)
