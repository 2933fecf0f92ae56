"""`flask admin` and `flask token`: what is left when nobody can log in any more."""

from __future__ import annotations

from apiflask import APIFlask

from app.services.people import admins, invitations, tokens
from tests.support.application import EMAIL, PASSWORD, TESTER, Processes

OTHER = "other@example.com"
NEW = "another fine password"


def test_a_forgotten_password_is_set_from_a_pipe(app: APIFlask, processes: Processes) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    done = processes.run("admin", "password", EMAIL.upper(), stdin=f"{NEW}\n")
    assert (done.returncode, done.stdout) == (0, f"{EMAIL} has a new password. Sessions that ended: 0.\n")
    assert admins.authenticate(EMAIL, NEW, "192.0.2.1")
    short = processes.run("admin", "password", EMAIL, stdin="short\n")
    assert short.returncode == 1
    assert "at least 10 characters" in short.stderr
    unknown = processes.run("admin", "password", "nobody@example.com", stdin=f"{NEW}\n")
    assert (unknown.returncode, unknown.stderr) == (1, "There is no admin with the address nobody@example.com.\n")


def test_an_invitation_is_printed_once_and_can_be_accepted(app: APIFlask, processes: Processes) -> None:
    done = processes.run("admin", "invite", OTHER, PUBLIC_URL="https://backup.example.com")
    link = done.stdout.strip()
    assert link.startswith("https://backup.example.com/invitation?key=")
    assert invitations.accept(link.partition("=")[2], NEW, "192.0.2.1").email == OTHER
    without = processes.run("admin", "invite", "third@example.com")
    assert without.stdout.startswith("/invitation?key=")
    assert "PUBLIC_URL is not set" in without.stderr


def test_admins_are_listed_disabled_enabled_and_removed_but_for_the_last(app: APIFlask, processes: Processes) -> None:
    for email in (EMAIL, OTHER):
        admins.create(TESTER, email, PASSWORD)
    assert "Ended: 0 sessions, 0 tokens." in processes.run("admin", "disable", OTHER).stdout
    listed = processes.run("admin", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [[EMAIL, "enabled"], [OTHER, "disabled"]]
    last = processes.run("admin", "disable", EMAIL)
    assert (last.returncode, last.stderr.startswith("This is the last admin")) == (1, True)
    assert processes.run("admin", "enable", OTHER).stdout == f"{OTHER} can log in again.\n"
    assert processes.run("admin", "remove", OTHER, stdin="n\n").returncode == 1
    assert processes.run("admin", "remove", OTHER, "--yes").returncode == 0
    assert not admins.exists(OTHER)


def test_tokens_are_listed_and_revoked(app: APIFlask, processes: Processes) -> None:
    row, secret = tokens.create(TESTER, "nightly", ["backup"])
    listed = processes.run("token", "list").stdout
    assert str(row.id) in listed
    assert f"nightly  backup  never used, ends {row.expires_at:%Y-%m-%d}, made by tests" in listed
    assert secret not in listed
    assert processes.run("token", "revoke", str(row.id)).stdout == "Token 'nightly' is revoked.\n"
    assert tokens.authenticate(secret) is None
    assert processes.run("token", "list").stdout == ""
