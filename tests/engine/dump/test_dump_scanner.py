"""Where statements and COPY data begin and end, however the stream is cut and whatever names and comments imitate."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.dump.dump_splitter import END_LINE, CopyBegin, CopyEnd, DumpSplitter, Rows, Sql, parse_copy
from app.engine.dump.sql_scanner import StatementScanner
from app.engine.errors import DumpError
from tests.support.databases import SourceDatabase, psql, run_client
from tests.support.dumping import dumped
from tests.support.hard_schema import fill_hard

END = b"--\n-- PostgreSQL database dump complete\n--\n\n"

NASTY = [
    b"SELECT 1;",
    b"SELECT ';', 'it''s;', '\\';",
    b"SELECT E'\\';', e'\\\\', E'''\\n;';",
    b'SELECT 1 AS "a;""b;", 2 AS "COPY x FROM stdin;";',
    b"SELECT $$;'$$, $a$;$$;$a$, $\xc3\xa9$;$\xc3\xa9$, $_1$;$1$;$_1$;",
    b"SELECT 1 /* ; /* nested; ' */ \" */ + 2 -- ; ' $$ /*\n;",
    b"SELECT 1 + -1 - - 2 / 3 *-- ;\n 4;",
    b"SELECT a$b$c, 7 AS a$b$c FROM (SELECT 1 AS a$b$c) s(a$b$c);",
    b"CREATE RULE r AS ON INSERT TO nasty DO ALSO (SELECT 1; SELECT 2;);",
    b"CREATE FUNCTION f1(begin integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN (begin > 1)"
    b" THEN CASE 1 WHEN 1 THEN 2 END ELSE 3 END; END;",
    b"CREATE OR REPLACE FUNCTION f2() RETURNS integer LANGUAGE sql bEGIN /* ; */ aTOMIC SELECT 1; END;",
    b"CREATE PROCEDURE p1() LANGUAGE sql BEGIN ATOMIC END;",
    b'CREATE FUNCTION f3(begin integer, "end" integer) RETURNS integer RETURN (begin + 1);',
    b"CREATE FUNCTION f4() RETURNS void LANGUAGE plpgsql AS $$BEGIN NULL; END;$$;",
    b"BEGIN;",
    b"END;",
    b"SELECT CASE WHEN true THEN ';' END;",
    b"SELECT U&'\\0041;', B'1', N'x;', X'1F', 1e5, .5, 0x1F;",
    b"SELECT '\n\\.\n', 'COPY a FROM stdin;\n';",
    b"\t \n",
    b"SELECT '" + b"x;" * 50 + b"';",
]


def scan(text: bytes, cuts: list[int]) -> list[tuple[bytes, int]]:
    """Return the statements of a text, cut at these places, and their ends."""
    scanner, found = StatementScanner(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        scanner.feed(text[start:end])
        found += [(statement.text, statement.end) for statement in scanner.statements()]
    found += [(statement.text, statement.end) for statement in scanner.statements(final=True)]
    return found


def split(text: bytes, cuts: list[int]) -> tuple[bytes, list[tuple[object, ...]]]:
    """Return a dump reassembled, and its boundaries: what begins where, and the rows between."""
    splitter, events = DumpSplitter(), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        events += splitter.feed(text[start:end])
    events += splitter.finish()
    joined, borders, rows = bytearray(), [], 0
    for event in events:
        if isinstance(event, CopyBegin):
            borders.append(("begin", len(joined), event.schema, event.table))
            joined += event.statement + b"\n"
        elif isinstance(event, CopyEnd):
            borders.append(("end", len(joined), rows))
            joined += END_LINE
            rows = 0
        else:
            assert isinstance(event, Sql | Rows)
            rows += event.count if isinstance(event, Rows) else 0
            joined += event.text
    return bytes(joined), borders


def cut_positions(size: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, size), max_size=12).map(sorted)


DUMP = (
    b'\\restrict AbCdEf0123456789\n\n-- comment; COPY a FROM stdin;\n\nSET x = 1;\nCREATE TABLE "COPY q FROM stdin;" ();\n'
    b"COMMENT ON TABLE x IS 'COPY public.fake (a) FROM stdin;\n1\n\\.\n';\n"
    b"/* COPY public.fake FROM stdin; */\n"
    b'\nCOPY public.one (a, "b;\n(""x", c) FROM stdin;\n1\t2\n\\\\.\n\\N\n\\.\n\n'
    b'COPY "S.s"."t""; FROM stdin;"  FROM stdin;\n\\.\n'
    b'COPY "line\nbreak" (a) FROM stdin;\nCOPY public.fake (a) FROM stdin;\n\'"$$/*\n--\n\\.\n'
    b"COPY nothing TO stdout;\nSELECT pg_catalog.setval('x', 1);\nSELECT $$COPY y FROM stdin;\n\\.\n$$;\n\\unrestrict A\n\n"
    + END
)
DUMP_COPIES = [("public", "one", 3), ("S.s", 't"; FROM stdin;', 0), ("", "line\nbreak", 3)]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_cut_of_the_stream_gives_the_same_statements(data: st.DataObject) -> None:
    order = data.draw(st.permutations(NASTY))
    glue = data.draw(st.sampled_from([b"\n", b" ", b"", b"\n-- ; '\n", b"/* ; ' $$ */"]))
    text = glue.join(order)

    found = scan(text, data.draw(cut_positions(len(text))))

    assert [statement for statement, _ in found] == [statement for statement in order if statement.strip()]
    assert all(text[:end].endswith(statement) for statement, end in found)


def test_one_byte_at_a_time_gives_the_same_statements() -> None:
    text = b"\n".join(NASTY)

    assert scan(text, list(range(1, len(text)))) == scan(text, [])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_cut_of_a_dump_gives_the_same_borders(data: st.DataObject) -> None:
    joined, borders = split(DUMP, data.draw(cut_positions(len(DUMP))))

    assert joined == DUMP
    begins = [border for border in borders if border[0] == "begin"]
    ends = [border for border in borders if border[0] == "end"]
    assert [(begin[2], begin[3], end[2]) for begin, end in zip(begins, ends, strict=True)] == DUMP_COPIES


def test_every_single_cut_of_a_dump_gives_the_same_borders() -> None:
    whole = split(DUMP, [])

    assert all(split(DUMP, [cut]) == whole for cut in range(len(DUMP)))
    assert split(DUMP, list(range(1, len(DUMP)))) == whole


@settings(max_examples=200, deadline=None)
@given(
    schema=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    table=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    column=st.text(st.sampled_from("a\"; ()\n\\.$'COPY FROM stdin/*-"), min_size=1),
)
def test_any_quoted_name_is_read_back(schema: str, table: str, column: str) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in (schema, table, column)]
    statement = "COPY {}.{} ({}) FROM stdin;".format(*quoted).encode()

    begin = parse_copy(statement)
    (scanned,) = scan(statement + b"\n", [])

    assert begin is not None
    assert (begin.schema, begin.table) == (schema, table)
    assert scanned[0] == statement


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DUMP[:-20], "lacks pg_dump's last line"),
        (DUMP[: DUMP.index(b"\\\\.")], "inside a table's data"),
        (DUMP[: DUMP.index(b"CREATE TABLE") + 8], "inside a statement"),
        (DUMP[: DUMP.index(b"1\n\\.\n';")], "inside a statement"),
        (b"", "lacks pg_dump's last line"),
        (b"COPY a (b) FROM stdin; 1\n\\.\n" + END, "behind a COPY statement"),
        (DUMP.replace(b"\\\\.\n", b"-- PostgreSQL database dump complete\n")[:-20], "lacks pg_dump's last line"),
        (DUMP[:-20] + b"\nCOMMENT ON TABLE a IS '\n" + END, "inside a statement"),
    ],
)
def test_a_dump_that_breaks_off_is_an_error(text: bytes, reason: str) -> None:
    with pytest.raises(DumpError, match=reason):
        split(text, [])


def test_a_dump_cut_anywhere_before_its_last_line_is_an_error() -> None:
    for cut in range(len(DUMP) - len(END)):
        with pytest.raises(DumpError):
            split(DUMP[:cut], [])


UNFINISHED = {
    "a quote": (b"SELECT '", b"x"),
    "doubled quotes": (b"SELECT '", b"''"),
    "an escaped string": (b"SELECT E'", b"\\\\"),
    "doubled quotes, escaped": (b"SELECT E'", b"''"),
    "a name": (b'SELECT "', b"x"),
    "a dollar quote": (b"SELECT $a$", b"$a"),
    "a dollar tag": (b"SELECT $", b"a"),
    "dollars": (b"SELECT 1 ", b"$1"),
    "a word": (b"SELECT ", b"a"),
    "a number": (b"SELECT ", b"1"),
    "blanks": (b"SELECT ", b" "),
    "blanks between statements": (b"", b"\n"),
    "commas": (b"SELECT ", b","),
    "a line comment": (b"-- ", b"x"),
    "nested comments": (b"/*", b"/* "),
    "closed comments": (b"/*", b"/**/"),
    "parentheses": (b"SELECT ", b"(a"),
    "closed parentheses": (b"SELECT ", b"(a)"),
    "a statement in many words": (b"SELECT ", b"a "),
    "a function's body": (b"CREATE FUNCTION f() BEGIN ATOMIC ", b"a; "),
    "cases": (b"CREATE FUNCTION f() BEGIN ATOMIC ", b"case "),
    "a meta command": (b"\\", b"x"),
    "COPY data": (b"COPY a (b) FROM stdin;\n", b"x"),
    "COPY data of backslashes": (b"COPY a (b) FROM stdin;\n", b"\\\\"),
    "COPY data of line ends": (b"COPY a (b) FROM stdin;\n", b"\n"),
}


@pytest.mark.parametrize("what", UNFINISHED)
def test_what_does_not_end_is_looked_at_once_however_small_the_chunks(what: str) -> None:
    begin, more = UNFINISHED[what]
    splitter = DumpSplitter()
    began = time.process_time()
    splitter.feed(begin)
    for _ in range(10_000):
        splitter.feed(more * 40)
    with pytest.raises(DumpError, match=r"broke off|lacks"):
        splitter.finish()
    assert time.process_time() - began < 5, "about 0.2 s is usual; where all is looked at again it takes minutes"


def test_small_tables_share_their_chunk_and_what_stands_behind_a_table_is_not_scanned_for_it() -> None:
    tables = b"".join(b"COPY t%d (id) FROM stdin;\n1\n2\n\\.\n\n" % number for number in range(8_000))
    text = (tables + b"-- " + b"x" * 700_000 + b"\n" + END).ljust(1024**2, b"\n")
    splitter = DumpSplitter()
    began = time.process_time()
    tracemalloc.start()
    try:
        events = splitter.feed(text) + splitter.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(isinstance(event, CopyEnd) for event in events) == 8_000
    assert peak < 50 * 1024**2, "a copy of the chunk for each table would be 8 GB"
    assert time.process_time() - began < 20


def test_psql_executes_the_statements_that_the_scanner_finds(source_db_each: SourceDatabase) -> None:
    script = b"CREATE TABLE nasty ();\n" + b"\n".join(NASTY)
    found = [statement for statement, _ in scan(script, [])]

    done = run_client(source_db_each.bin_dir, "psql", "-X", "-e", "-d", source_db_each.url, stdin=script, check=False)

    assert b"ERROR" not in done.stderr, done.stderr.decode()
    echoed = done.stdout
    for statement in found:
        at = echoed.find(statement)
        assert at >= 0, statement
        echoed = echoed[at + len(statement) :]
    routines = psql(
        source_db_each.bin_dir,
        source_db_each.url,
        "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    assert int(routines) == 5


def test_a_real_dump_has_as_many_borders_as_the_server_knows_tables(source_db_each: SourceDatabase) -> None:
    fill_hard(source_db_each)
    text = dumped(source_db_each.bin_dir, source_db_each.url)

    joined, borders = split(text, list(range(7, len(text), 7919)))

    assert joined == text
    begins = [border[2:] for border in borders if border[0] == "begin"]
    assert len(begins) == len(set(begins)) >= 22
    # The schema holds far more lines that look like a border than there are borders.
    assert len(re.findall(rb"COPY [^\n]*FROM stdin;", text)) > len(begins) + 10
