"""The audit log as a chain: what was changed, removed or added shows."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask_migrate import downgrade, upgrade
from sqlalchemy import select, text

from app.cli.access import audit as audit_commands
from app.extensions import db
from app.models import AuditEntry, utcnow
from app.services.audit import audit, audit_chain
from app.services.audit.actor import Actor
from tests.support.application import TESTER


def write(number: int, actor: Actor = TESTER) -> None:
    for index in range(number):
        audit.record(actor, "settings.changed", "settings", None, {"number": index, "text": "ä \u2028 €", "half": 0.5})
        db.session.commit()


def run(statement: str, **values: object) -> None:
    db.session.execute(text(statement), values)
    db.session.commit()


def test_what_is_sealed_is_whole_and_nothing_is_sealed_twice(app: APIFlask) -> None:
    write(5)
    assert (audit_chain.seal(), audit_chain.seal()) == (5, 0)
    write(2)
    assert audit_chain.verify().unsealed == 2
    assert audit_chain.seal() == 2
    found = audit_chain.verify()
    assert (found.entries, found.head.position, found.unsealed, found.problem) == (7, 7, 0, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE audit_log SET actor_name = 'somebody else' WHERE position = 3", "Entry 3"),
        ("UPDATE audit_log SET detail = '{}' WHERE position = 3", "Entry 3"),
        ("UPDATE audit_log SET at = at - interval '1 microsecond' WHERE position = 3", "Entry 3"),
        ("DELETE FROM audit_log WHERE position = 3", "After entry 2, 1 entries are missing"),
        ("DELETE FROM audit_log WHERE position <= 2", "After entry 0, 2 entries are missing"),
    ],
)
def test_a_change_shows(app: APIFlask, change: str, words: str) -> None:
    write(6)
    audit_chain.seal()
    run(change)
    assert words in str(audit_chain.verify().problem)
    done = app.test_cli_runner().invoke(audit_commands, ["verify"])
    assert (done.exit_code, words in done.output) == (1, True)


def test_a_head_that_was_kept_shows_what_was_cut_off_or_made_anew(app: APIFlask) -> None:
    write(6)
    audit_chain.seal()
    head = audit_chain.verify().head
    assert audit_chain.verify(head).problem is None
    run("DELETE FROM audit_log WHERE position = 6")
    assert audit_chain.verify().problem is None, "nothing in the database shows that"
    assert "missing" in str(audit_chain.verify(head).problem)
    write(1)
    audit_chain.seal()
    assert "rebuilt" in str(audit_chain.verify(head).problem)
    done = app.test_cli_runner().invoke(audit_commands, ["verify", "--head", str(head)])
    assert (done.exit_code, "rebuilt" in done.output) == (1, True)


def test_writers_and_sealers_beside_each_other_make_one_line(app: APIFlask) -> None:
    def work(number: int) -> None:
        with app.app_context():
            for _ in range(10):
                write(2, Actor.system(f"thread {number}"))
                audit_chain.seal()
            db.session.remove()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit_chain.seal()
    found = audit_chain.verify()
    assert (found.entries, found.unsealed, found.problem) == (80, 0, None)


def test_old_entries_are_cut_from_the_old_end_and_the_rest_stays_whole(app: APIFlask) -> None:
    for days in (9 * 365, 8 * 365, 10, 9 * 365, 1):
        audit.record(TESTER, "login", "admin", None, {"days": days})
        db.session.flush()
        newest = db.session.scalars(select(AuditEntry).order_by(AuditEntry.id.desc())).first()
        assert newest is not None
        newest.at = utcnow() - timedelta(days=days)
        db.session.commit()
    audit_chain.seal()
    assert audit_chain.cut() == 2, "the third is young: what is behind it stays"
    assert audit_chain.cut() == 0
    audit_chain.seal()
    found = audit_chain.verify()
    assert (found.entries, found.head.position, found.problem) == (4, 6, None)
    assert audit.list_entries().items[0].action == "audit.cut"
    run("DELETE FROM audit_log WHERE position = 3")
    assert "After entry 2, 1 entries are missing" in str(audit_chain.verify().problem)


def test_a_cut_while_the_chain_is_read_is_no_break(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    write(4)
    audit_chain.seal()
    run("UPDATE audit_log SET at = at - interval '8 years', position = NULL, chain_hash = NULL")
    audit_chain.seal()
    write(2)
    audit_chain.seal()
    anchor, looks = audit_chain._anchor, []

    def cut_after_the_first_look() -> audit_chain.Head:
        found = anchor()
        looks.append(found)
        if len(looks) == 1:
            monkeypatch.setattr(audit_chain, "_anchor", anchor)
            assert audit_chain.cut() == 4
        return found

    monkeypatch.setattr(audit_chain, "_anchor", cut_after_the_first_look)
    found = audit_chain.verify()
    assert (found.problem, found.entries) == (None, 2)


def test_the_columns_come_and_go(app: APIFlask) -> None:
    write(2)
    audit_chain.seal()
    db.session.remove()
    downgrade(revision="0006")
    upgrade()
    assert audit_chain.seal() == 2
    assert audit_chain.verify().problem is None
