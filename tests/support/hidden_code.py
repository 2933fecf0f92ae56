"""Forms of bringing code in a dump: what a preview must show, and what hides from any text and must be stopped.

`evil` is part of the name of everything that an attacker would like to have run.
"""

from __future__ import annotations

_F = "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';"
_P = "CREATE FUNCTION public.evil_plpgsql() RETURNS int LANGUAGE plpgsql AS $$BEGIN RETURN 1; END$$;"
_T = "CREATE FUNCTION public.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"

SHOWN = {
    "function": _F,
    "function after a comment": "CREATE /**/ FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "function after a line comment": "CREATE -- TABLE\nFUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "function after nested comments": "CREATE /* /* */ TABLE */ OR/**/REPLACE\tFUNCTION public.evil() RETURNS int"
    " LANGUAGE sql AS 'SELECT 1';",
    "function behind a long comment": "/* x */ CREATE /*" + "x" * 400 + "*/ FUNCTION public.evil() RETURNS int"
    " LANGUAGE sql AS 'SELECT 1';",
    "function in mixed case": "cReAtE Or RePlAcE fUnCtIoN PUBLIC.EVIL() rEtUrNs int LaNgUaGe sql As 'SELECT 1';",
    "function with a quoted name": 'CREATE FUNCTION "public"."evil"() RETURNS int LANGUAGE sql AS $x$SELECT 1$x$;',
    "function without a schema": "SET search_path = public; CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "function with a body of its own": "CREATE FUNCTION public.evil() RETURNS int BEGIN ATOMIC SELECT 1; END;",
    "security definer": "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';",
    "security definer later": _F + " ALTER FUNCTION public.evil() SECURITY /**/ DEFINER;",
    "procedure": "CREATE PROCEDURE public.evil() LANGUAGE plpgsql AS 'BEGIN END';",
    "aggregate": "CREATE AGGREGATE public.evil(int) (SFUNC = int4pl, STYPE = int);",
    "window function of a user": "CREATE FUNCTION public.evil(VARIADIC a int[]) RETURNS int LANGUAGE sql AS 'SELECT 1';",
    "trigger": _T
    + "CREATE /**/ TRIGGER evil BEFORE INSERT ON public.notes FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();",
    "constraint trigger": _T + "CREATE CONSTRAINT TRIGGER evil AFTER INSERT OR UPDATE OF id, text ON public.notes"
    " DEFERRABLE FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();",
    "rule": "CREATE RULE evil AS ON UPDATE TO public.notes DO ALSO SELECT 1;",
    "rule that replaces": "CREATE OR REPLACE RULE evil AS ON DELETE TO public.notes WHERE OLD.id > 0 DO INSTEAD NOTHING;",
    "policy": "CREATE POLICY evil ON public.notes USING (id > 0); ALTER TABLE public.notes ENABLE ROW LEVEL SECURITY;",
    "view": "CREATE /**/ VIEW public.evil AS SELECT 1;",
    "recursive view": "CREATE RECURSIVE VIEW public.evil (n) AS SELECT 1;",
    "view with options": "CREATE VIEW public.evil WITH (security_barrier) AS SELECT 1;",
    "materialized view": "CREATE MATERIALIZED /**/ VIEW public.evil AS SELECT 1;",
    "materialized view without data": "CREATE MATERIALIZED VIEW IF NOT EXISTS public.evil AS SELECT 1 WITH NO DATA;",
    "view in a schema": "CREATE SCHEMA s CREATE VIEW evil AS SELECT 1;",
    "view in a schema behind a table": "CREATE SCHEMA s CREATE TABLE t (id int) CREATE VIEW evil AS SELECT 1;",
    "trigger in a schema": _T + "CREATE SCHEMA s CREATE TABLE t (id int)"
    " CREATE TRIGGER evil BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();",
    "operator": "CREATE FUNCTION public.evil_op(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " CREATE OPERATOR public.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = public.evil_op);",
    "cast": "CREATE TYPE public.evil_type AS (a int); CREATE FUNCTION public.evil_cast(public.evil_type) RETURNS int"
    " LANGUAGE sql AS 'SELECT 1'; CREATE CAST (public.evil_type AS int) WITH FUNCTION public.evil_cast;",
    "publication": "CREATE PUBLICATION evil;",
    "block": "DO $$ BEGIN PERFORM 'evil'; END $$;",
    "block in a language": "do /**/ LANGUAGE plpgsql 'BEGIN PERFORM ''evil''; END';",
    "call": "CREATE PROCEDURE public.evil() LANGUAGE plpgsql AS 'BEGIN END'; CALL /**/ public.evil();",
    "call in a select": _F + " SELECT public.evil();",
    "select of PostgreSQL's own": "SELECT pg_sleep(0), 'evil';",
    "select in parentheses": _F + " WITH x AS (SELECT public.evil()) SELECT * FROM x;",
    "set_config of another": "SELECT set_config('search_path', 'evil' || '', false);",
    "default": _F + " CREATE TABLE public.t (id int DEFAULT public.evil());",
    "default added": _F + " ALTER TABLE ONLY public.notes ALTER COLUMN id SET DEFAULT public.evil();",
    "default of PostgreSQL's own": "CREATE TABLE public.t_evil (x xml DEFAULT query_to_xml('SELECT 1', true, true, ''));",
    "check": _P + " CREATE TABLE public.t (id int CHECK (id = public.evil_plpgsql()));",
    "check of PostgreSQL's own": "CREATE TABLE public.t_evil (id int CHECK (pg_catalog.lo_unlink(id::oid) = 1));",
    "check added": _P + " ALTER TABLE public.notes ADD CONSTRAINT c CHECK (public.evil_plpgsql() > 0) NOT VALID;",
    "domain": _F + " CREATE DOMAIN public.d AS int CHECK (VALUE = public.evil());",
    "domain of PostgreSQL's own": "CREATE DOMAIN public.d_evil AS int CHECK (pg_sleep(0) IS NULL);",
    "domain's default": _F + " CREATE DOMAIN public.d AS int DEFAULT public.evil();",
    "generated column": "CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
    " CREATE TABLE public.t (id int, g int GENERATED ALWAYS AS (public.evil(id)) STORED);",
    "index": "CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
    " CREATE INDEX i ON public.notes (public.evil(id));",
    "index's condition": "CREATE FUNCTION public.evil(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
    " CREATE INDEX i ON public.notes (id) WHERE public.evil(id);",
    "statistics": "CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
    " CREATE STATISTICS public.s ON (public.evil(id)), text FROM public.notes;",
    "partition key": "CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';"
    " CREATE TABLE public.t (id int) PARTITION BY RANGE (public.evil(id));",
    "prepared statement": "PREPARE evil AS SELECT 1; EXECUTE evil;",
    "update": "UPDATE public.notes SET text = 'evil';",
    "insert of a call": _F + " INSERT INTO public.notes VALUES (public.evil(), 'x');",
    "insert of a query": _F + " INSERT INTO public.notes SELECT public.evil(), 'x';",
    "merge": "MERGE INTO public.notes USING (SELECT 1 AS evil) e ON false WHEN NOT MATCHED THEN INSERT VALUES (2, 'x');",
    "range type with a function": "CREATE FUNCTION public.evil(int, int) RETURNS float8 LANGUAGE sql IMMUTABLE"
    " AS 'SELECT 1.0'; CREATE TYPE public.r AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = public.evil);",
}
"""The text shows it, and so must the preview. They load."""

_RUN = "CREATE FUNCTION public.harmless() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE {what}; RETURN 1; END$$;"

HIDDEN = {
    "function by a block": "DO $$ BEGIN EXECUTE 'CREATE FUN' || 'CTION public.evil() RETURNS int LANGUAGE sql RETURN 1';"
    " END $$;",
    "view by a block": "DO $$ BEGIN EXECUTE 'CREATE VI' || 'EW public.evil AS SELECT 1'; END $$;",
    "trigger by a block": _T.replace("evil_", "shown_") + "DO $$ BEGIN EXECUTE 'CREATE TRIGGER evil BEFORE INSERT ON"
    " public.notes FOR EACH ROW EXECUTE FUNCTION public.shown_trigger()'; END $$;",
    "rule by a block": "DO $$ BEGIN EXECUTE 'CREATE RULE evil AS ON DELETE TO public.notes DO ALSO SELECT 1'; END $$;",
    "policy by a block": "DO $$ BEGIN EXECUTE 'CREATE POLICY evil ON public.notes'; END $$;",
    "aggregate by a block": "DO $$ BEGIN EXECUTE 'CREATE AGGREGATE public.evil(int) (SFUNC = int4pl, STYPE = int)'; END $$;",
    "definer by a block": "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " DO $$ BEGIN EXECUTE 'ALTER FUNCTION public.evil() SECURITY DEFINER'; END $$;",
    "another body by a block": "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " DO $$ BEGIN EXECUTE 'CREATE OR REPLACE FUNCTION public.evil() RETURNS int LANGUAGE sql AS ''SELECT 2'''; END $$;",
    "another of the same name": "CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " DO $$ BEGIN EXECUTE 'CREATE FUNCTION public.evil(int) RETURNS int LANGUAGE sql AS ''SELECT 2'''; END $$;",
    "default by a block": "CREATE TABLE public.evil (x xml);"
    " DO $$ BEGIN EXECUTE 'ALTER TABLE public.evil ALTER x SET DEFAULT query_to_' || 'xml(''SELECT 1'', true, true, '''')';"
    " END $$;",
    "function by a default while rows are copied": _RUN.format(
        what="'CREATE OR REPLACE FUN' || 'CTION public.evil() RETURNS int LANGUAGE sql RETURN 1'"
    )
    + "CREATE TABLE public.t (id int, x int DEFAULT public.harmless());\nCOPY public.t (id) FROM stdin;\n1\n\\.\n",
    "function by a check": _RUN.format(what="'CREATE FUNCTION public.evil() RETURNS int LANGUAGE sql RETURN 1'")
    + "CREATE TABLE public.t (id int CHECK (public.harmless() = 1)); INSERT INTO public.t VALUES (1);",
    "view by a query": _RUN.format(what="'CREATE VIEW public.evil AS SELECT 1'") + "SELECT public.harmless();",
    "view by a procedure": "CREATE PROCEDURE public.harmless() LANGUAGE plpgsql AS $$BEGIN EXECUTE 'CREATE VIEW public.evil"
    " AS SELECT 1'; END$$; CALL public.harmless();",
    "publication by a block": "DO $$ BEGIN EXECUTE 'CREATE PUBLICATION evil'; END $$;",
    "operator by a block": "CREATE FUNCTION public.shown(int, int) RETURNS int LANGUAGE sql AS 'SELECT 1'; DO $$ BEGIN"
    " EXECUTE 'CREATE OPERATOR public.### (LEFTARG = int, RIGHTARG = int, FUNCTION = public.shown)'; END $$;",
    "cast by a block": "CREATE TYPE public.kind AS (a int); CREATE FUNCTION public.shown(public.kind) RETURNS int"
    " LANGUAGE sql AS 'SELECT 1'; DO $$ BEGIN EXECUTE 'CREATE CAST (public.kind AS int) WITH FUNCTION "
    "public.shown'; END $$;",
    "name in Unicode escapes": 'CREATE VIEW public.U&"\\0065vil" AS SELECT 1;',
}
"""Nothing in the text names it; the catalogue does. It must not go live."""
