"""All code that an untrusted archive brings is in the preview; what hides from the preview never goes live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreError
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.cluster import changes, cluster_facts
from tests.support.hidden_code import HIDDEN, SHOWN
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, pristine


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live pair that is the same before and after each test."""
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    with pristine(server, tmp_path_factory.mktemp("pristine"), b"CREATE TABLE notes (id integer)") as made:
        with made.live(tmp_path_factory.mktemp("live")) as live:
            before = cluster_facts(server)
            yield live
            assert changes(before, cluster_facts(server)) == {}


def archive(tmp_path: Path, text: str) -> Path:
    return archive_with_dump(tmp_path / "hostile.tar.gz", dump_of(text.encode()))


@pytest.mark.parametrize("form", SHOWN)
def test_the_preview_shows_it(live: Live, tmp_path: Path, form: str) -> None:
    request = live.request(archive(tmp_path, SHOWN[form]), url=live.admin_url, scope="database")

    looked = preview(request, exact=True)

    assert any("evil" in line.lower() for line in looked.code), looked.code
    assert looked.blockers == []


def test_what_a_long_statement_calls_is_shown_beside_its_beginning(live: Live, tmp_path: Path) -> None:
    columns = ", ".join(f"c{number} int" for number in range(60))
    table = f"CREATE TABLE public.t ({columns}, x xml DEFAULT query_to_xml('SELECT 1', true, true, ''));"

    looked = preview(live.request(archive(tmp_path, table), scope="database"), exact=True)

    assert ["calls query_to_xml" in line for line in looked.code] == [True]


def test_all_of_it_at_once_is_listed_with_the_result_as_the_catalogue_has_it(live: Live, tmp_path: Path) -> None:
    """Each form that makes something to stay, in a schema of its own; what the preview has shown is not held back."""
    text = []
    for number, (form, statement) in enumerate(SHOWN.items()):
        if "PUBLIC.EVIL" in statement or "SCHEMA s" in statement or "search_path" in statement or "PREPARE" in statement:
            continue
        schema = f"of_{number}"
        make = f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.notes (id integer, text text); -- {form}\n"
        text.append(make + statement.replace('"public"', schema).replace("public.", f"{schema}."))
        text[-1] = text[-1].replace("PUBLICATION evil", f"PUBLICATION evil_{number}")
    request = live.request(archive(tmp_path, "\n".join(text)), scope="database")

    result = restore(request)

    assert len([line for line in result.code if "evil" in line]) > len(text) / 2
    assert any("SECURITY DEFINER" in line for line in result.code)
    assert any("that calls query_to_xml" in line for line in result.code)
    undo(live.state_dir, request.restore_id, live.source())
    discard(live.state_dir, request.restore_id, live.source())


@pytest.mark.parametrize("form", HIDDEN)
def test_what_the_preview_can_not_see_is_stopped_before_the_swap(live: Live, tmp_path: Path, form: str) -> None:
    request = live.request(archive(tmp_path, HIDDEN[form]), scope="database")

    with pytest.raises(RestoreError, match="made code that its text does not show") as stopped:
        restore(request)

    message = str(stopped.value)
    assert "evil" in message or "###" in message or "cast from public.kind" in message
    assert "pg_dump" in message
    assert live.remains() == []
