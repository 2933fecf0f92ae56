"""Which statements of a dump may be run side by side, and that what was run so is as if it had been run in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.loading.load_plan import ForeignKey, PostData, foreign_key
from app.engine.restore.restore import restore
from tests.support.databases import admin_connection
from tests.support.restoring import pristine

BEFORE = b"SET default_tablespace = '';"
LOGS = ("public", "logs")
ODD = ("semi;colon", 'a "quoted", one')

SCRIPT = """
CREATE TABLE owners (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE logs (id integer, owner integer, at integer NOT NULL, note text, CONSTRAINT both_ways UNIQUE (owner, id),
    PRIMARY KEY (id)) TABLESPACE {space};
CREATE TABLE notes (id integer PRIMARY KEY USING INDEX TABLESPACE {space}, log integer, other integer UNIQUE DEFERRABLE,
    body text, EXCLUDE USING btree (body WITH =));
CREATE TABLE parts (id integer, log integer, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (500);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (500) TO (5000) TABLESPACE {space};
CREATE INDEX logs_at ON logs (at) TABLESPACE {space};
CREATE INDEX logs_note ON logs USING hash (note);
CREATE UNIQUE INDEX logs_words ON logs (lower(note), id) INCLUDE (at) WHERE id > 5;
CREATE INDEX parts_log ON parts (log);
CREATE STATISTICS together ON owner, at FROM logs;
INSERT INTO owners SELECT n, 'owner ' || n FROM generate_series(1, 50) n;
INSERT INTO logs SELECT n, n % 50 + 1, n / 3, 'note ' || n FROM generate_series(1, 3000) n;
INSERT INTO notes SELECT n, n, n, 'body ' || n FROM generate_series(1, 1000) n;
INSERT INTO parts SELECT n, n FROM generate_series(1, 2000) n;
ALTER TABLE logs ADD CONSTRAINT of_owner FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE;
ALTER TABLE logs ADD CONSTRAINT of_itself FOREIGN KEY (owner, id) REFERENCES logs (owner, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE notes ADD CONSTRAINT of_log FOREIGN KEY (log) REFERENCES logs;
ALTER TABLE notes ADD CONSTRAINT unchecked FOREIGN KEY (other) REFERENCES owners NOT VALID;
ALTER TABLE notes ADD CONSTRAINT of_part FOREIGN KEY (other) REFERENCES parts;
ALTER TABLE parts ADD CONSTRAINT parts_of_log FOREIGN KEY (log) REFERENCES logs;
ALTER TABLE logs CLUSTER ON logs_at;
ALTER TABLE notes REPLICA IDENTITY USING INDEX notes_pkey;
"""
VALIDITY = """
SELECT conrelid::regclass::text, conname, contype::text, convalidated FROM pg_constraint
WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2
"""
PLACES = """
SELECT c.relname, t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1
"""
UNREADY = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND reltuples < 1"
ANALYZED = "SELECT stxname FROM pg_statistic_ext JOIN pg_statistic_ext_data ON stxoid = oid"


def test_a_plain_key_becomes_an_index_that_the_table_adopts_when_all_its_indexes_are_built() -> None:
    plan = PostData([LOGS], BEFORE)
    assert plan.take(b'ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT logs_pkey PRIMARY KEY (id, "odd, ""one");')
    work = plan.tables[LOGS]
    assert work.builds == [[BEFORE, b'CREATE UNIQUE INDEX logs_pkey ON ONLY public.logs (id, "odd, ""one");']]
    assert work.last == [b"ALTER TABLE ONLY public.logs ADD CONSTRAINT logs_pkey PRIMARY KEY USING INDEX logs_pkey;"]


@pytest.mark.parametrize(
    "statement",
    [
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT k UNIQUE NULLS NOT DISTINCT (id);",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT k PRIMARY KEY (id) INCLUDE (at);",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT k UNIQUE (id) DEFERRABLE;",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT k PRIMARY KEY (id, at WITHOUT OVERLAPS);",
        b"CREATE STATISTICS public.s ON a, b FROM public.logs;",
    ],
)
def test_other_keys_and_statistics_are_made_as_they_are_written(statement: bytes) -> None:
    plan = PostData([LOGS], BEFORE)
    assert plan.take(statement)
    assert plan.tables[LOGS].builds == []
    assert plan.tables[LOGS].last == [BEFORE, statement]


@pytest.mark.parametrize(
    ("index", "waits"),
    [
        (b"ON public.logs USING btree (lower(note), ((id + 1)))", False),
        (b"ON public.logs USING gin (note public.gin_trgm_ops) WHERE (note <> 'a.b'::text)", False),
        (b"ON public.logs USING btree (public.rate(id))", True),
        (b'ON public.logs USING btree (id) WHERE ("Odd"."f (x)"(id) > 5)', True),
        (b"ON public.logs USING gist (public.st_transform(place, 4326))", True),
    ],
)
def test_an_index_whose_function_may_read_other_tables_waits_for_all_of_them(index: bytes, waits: bool) -> None:
    plan = PostData([LOGS], BEFORE)
    assert plan.take(b"CREATE INDEX one " + index + b";")
    assert (len(plan.tables[LOGS].late_builds), len(plan.tables[LOGS].builds)) == ((1, 0) if waits else (0, 1))


def test_an_index_whose_function_reads_another_table_finds_its_rows(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    script = b"""
        CREATE TABLE rates (id integer PRIMARY KEY, rate integer, filler text);
        CREATE FUNCTION rate(of integer) RETURNS integer IMMUTABLE LANGUAGE sql
            AS 'SELECT rate FROM public.rates WHERE id = of';
        CREATE TABLE bills (id integer, rate_id integer);
        INSERT INTO rates SELECT n, n * 10, repeat(md5(n::text), 20) FROM generate_series(1, 20000) n;
        INSERT INTO bills SELECT n, n FROM generate_series(1, 100) n;
        CREATE INDEX by_rate ON bills (rate(rate_id));
    """
    with pristine(pg18, tmp_path, script) as made, made.live(tmp_path) as live:
        restore(live.request(made.archive))
        with psycopg.connect(live.url) as connection:
            connection.execute("SET enable_seqscan = off")
            assert connection.execute("SELECT id FROM bills WHERE rate(rate_id) = 500").fetchall() == [(50,)]


def test_a_check_or_a_column_whose_function_reads_another_table_finds_its_rows(
    pg18: EmbeddedPostgres, tmp_path: Path
) -> None:
    filler = b"repeat(md5(n::text), 20) FROM generate_series(1, 5000) n"
    script = b"""
        CREATE TABLE book (id integer PRIMARY KEY, rate integer);
        CREATE FUNCTION rate(of integer) RETURNS integer IMMUTABLE LANGUAGE sql
            AS 'SELECT rate FROM public.book WHERE id = of';
        CREATE FUNCTION known(of integer) RETURNS boolean LANGUAGE plpgsql
            AS 'BEGIN RETURN EXISTS (SELECT FROM public.book WHERE id = of); END';
        CREATE DOMAIN a_rate AS integer CHECK (known(VALUE));
        INSERT INTO book SELECT n, n * 10 FROM generate_series(1, 100) n;
        CREATE TABLE checked (id integer, of integer CHECK (known(of)), filler text);
        CREATE TABLE computed (id integer, of integer, filler text, rate integer GENERATED ALWAYS AS (rate(of)) STORED);
        CREATE TABLE of_domain (id integer, of a_rate, filler text);
        CREATE TABLE "Small" (n integer CHECK (n <= rate(100)));
        INSERT INTO checked SELECT n, n %% 100 + 1, %(filler)b;
        INSERT INTO computed SELECT n, n %% 100 + 1, %(filler)b;
        INSERT INTO of_domain SELECT n, n %% 100 + 1, %(filler)b;
        INSERT INTO "Small" SELECT generate_series(1, 1000);
    """ % {b"filler": filler}
    with pristine(pg18, tmp_path, script) as made, made.live(tmp_path) as live:
        before = live.state()
        restore(live.request(made.archive))
        assert live.state() == before
        with psycopg.connect(live.url) as connection:
            assert connection.execute("SELECT count(*) FROM computed WHERE rate = of * 10").fetchone() == (5000,)


def test_a_database_whose_tables_are_all_empty_comes_back(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    script = b"""
        CREATE TABLE one (id integer PRIMARY KEY, kind text CHECK (length(kind) > 1));
        CREATE TABLE parts (id integer PRIMARY KEY REFERENCES one) PARTITION BY HASH (id);
        CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    """
    with pristine(pg18, tmp_path, script) as made, made.live(tmp_path) as live:
        before = live.state()
        restore(live.request(made.archive))
        assert live.state() == before


def test_an_index_is_built_in_the_tablespace_that_was_set_before_it() -> None:
    plan = PostData([LOGS, ODD], BEFORE)
    first = b"CREATE INDEX i ON public.logs USING btree (at);"
    other = b'CREATE UNIQUE INDEX "j;" ON "semi;colon"."a ""quoted"", one" USING gin (body);'
    assert plan.take(first)
    assert not plan.take(b"SET default_tablespace = fast;")
    assert plan.take(other)
    assert plan.tables[LOGS].builds == [[BEFORE, first]]
    assert plan.tables[ODD].builds == [[b"SET default_tablespace = fast;", other]]


@pytest.mark.parametrize(
    "statement",
    [
        b"CREATE INDEX i ON ONLY public.parts USING btree (id);",
        b"CREATE INDEX i ON public.elsewhere USING btree (id);",
        b"ALTER TABLE ONLY public.elsewhere\n    ADD CONSTRAINT k PRIMARY KEY (id);",
        b"ALTER INDEX public.i ATTACH PARTITION public.j;",
        b"CREATE TRIGGER t BEFORE INSERT ON public.logs FOR EACH ROW EXECUTE FUNCTION public.f();",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT e EXCLUDE USING gist (at WITH &&);",
    ],
)
def test_everything_else_stays_in_its_order(statement: bytes) -> None:
    plan = PostData([LOGS], BEFORE)
    assert not plan.take(statement)
    assert (plan.tables[LOGS].builds, plan.tables[LOGS].last) == ([], [])


def test_a_foreign_key_is_added_unchecked_and_then_validated() -> None:
    add = b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a, b)"
    text = add + b" REFERENCES public.logs(c, d) ON DELETE SET NULL"
    assert foreign_key(text + b" DEFERRABLE;", [LOGS]) == ForeignKey(
        LOGS,
        LOGS,
        text + b" DEFERRABLE;",
        text + b" DEFERRABLE NOT VALID;",
        b"ALTER TABLE ONLY public.logs VALIDATE CONSTRAINT f;",
    )


@pytest.mark.parametrize(
    "statement",
    [
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.logs(c) NOT VALID;",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.logs(c) NOT ENFORCED;",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.parts(c);",
        b"ALTER TABLE public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.logs(c);",
        b"ALTER TABLE ONLY public.logs\n    ADD CONSTRAINT f FOREIGN KEY (a, PERIOD b) REFERENCES public.logs(c, PERIOD d);",
    ],
)
def test_other_foreign_keys_are_added_as_they_are_written(statement: bytes) -> None:
    assert foreign_key(statement, [LOGS]) is None


@pytest.fixture
def tablespace(pg18: EmbeddedPostgres) -> Iterator[str]:
    """A tablespace within the server's own folder."""
    name = "beside"
    with admin_connection(pg18) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE {name} LOCATION ''")
        connection.execute(f"GRANT CREATE ON TABLESPACE {name} TO PUBLIC")
    yield name
    with admin_connection(pg18) as connection:
        connection.execute(f"DROP TABLESPACE {name}")


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_keys_indexes_statistics_and_tablespaces_come_back_as_they_were(
    pg18: EmbeddedPostgres, tablespace: str, tmp_path: Path, threads: int
) -> None:
    script = SCRIPT.format(space=tablespace).encode()
    (tmp_path / "made").mkdir()
    with pristine(pg18, tmp_path / "made", script) as made, made.live(tmp_path) as live:
        with admin_connection(pg18, live.name) as connection:
            before = [connection.execute(query).fetchall() for query in (VALIDITY, PLACES)]
        original = live.state()

        assert restore(live.request(made.archive, threads=threads)).warnings == []

        assert live.state() == original
        with admin_connection(pg18, live.name) as connection:
            assert [connection.execute(query).fetchall() for query in (VALIDITY, PLACES)] == before
            assert ("notes", "unchecked", "f", False) in before[0]
            assert connection.execute(UNREADY).fetchall() == []
            assert connection.execute(ANALYZED).fetchall() == [("together",)]
