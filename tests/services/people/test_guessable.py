"""Passwords and keys that anybody would try first."""

from __future__ import annotations

import secrets

import pytest

from app.services.people import passwords
from app.services.people.guessable import is_hopeless_key
from tests.support.application import EMAIL, PASSWORD, Processes

COMMON = """1234567890 qwertyuiop Password123 P@ssw0rd2026! passw0rd123 1q2w3e4r5t qazwsxedcrfv administrator Changeme123!
motovaultpro1 iloveyou12 abcabcabcabc welcome2026 adminadmin letmein12345 0987654321 19841984198 monkeydragon"""


@pytest.mark.parametrize("password", COMMON.split())
def test_a_common_password_is_refused(password: str) -> None:
    assert passwords.problem(password, EMAIL)


@pytest.mark.parametrize(
    "password", [PASSWORD, "correct horse battery", "tr0ub4dor&3xyz", "Kd83jfkslw", "my dog ate the sofa"]
)
def test_an_uncommon_password_is_taken(password: str) -> None:
    assert passwords.problem(password, EMAIL) is None


@pytest.mark.parametrize(
    "key",
    ["a" * 16, "ab" * 20, "1234567890123456", "changemechangeme", "change-me-please", "abcdefghijklmnop", "secret" * 3],
)
def test_a_key_that_is_no_secret_is_found_out(key: str) -> None:
    assert is_hopeless_key(key)


def test_random_keys_are_taken() -> None:
    for _ in range(2000):
        assert not is_hopeless_key(secrets.token_hex(8))
        assert not is_hopeless_key(secrets.token_urlsafe(12))


def test_a_new_installation_does_not_start_with_such_a_key_and_an_old_one_does(processes: Processes) -> None:
    weak = {"SECRET_KEY": "a" * 16}
    refused = processes.run("admin", "list", **weak)
    assert (refused.returncode, "SECRET_KEY can be guessed" in refused.stderr) == (1, True)
    assert processes.run("admin", "list").returncode == 0
    assert processes.run("admin", "list", **weak).returncode == 0
    assert "PROBLEM SECRET_KEY: Anybody can guess it" in processes.run("doctor", **weak).stdout
