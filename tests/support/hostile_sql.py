"""What a hostile dump may hold. `{marker}`, `{live}`, `{owner}` stand for a file, the live database and its owner."""

from __future__ import annotations

COMMANDS = {
    "shell": r"\! touch {marker}",
    "shell behind a statement": r"SELECT 1; \! touch {marker}",
    "shell inside a statement": "SELECT 1\n\\! touch {marker}\n;",
    "copy program": r"\copy public.notes to program 'touch {marker}'",
    "unrestrict with backquotes": r"\unrestrict `touch {marker}`",
    "restrict with backquotes": r"\restrict `touch {marker}`",
    "set with backquotes": r"\set x `touch {marker}`",
    "include": r"\i {marker}.sql",
    "include relative": r"\ir {marker}.sql",
    "connect": r"\connect {live}",
    "output to a command": r"\o |touch {marker}",
    "write to a command": r"\w |touch {marker}",
    "result to a command": r"SELECT 1 \g |touch {marker}",
    "gexec": r"SELECT 'DROP TABLE t' \gexec",
    "environment": r"\setenv PAGER 'touch {marker}'",
    "large object export": r"\lo_export 1 {marker}",
    "condition": "\\if true\n\\endif",
}
"""What only psql obeys: refused before anything is made."""

SERVER_FILES = {
    "copy to program": "COPY public.notes TO PROGRAM 'touch {marker}';",
    "copy from program": "COPY public.notes FROM PROGRAM 'touch {marker}';",
    "copy to file": "COPY public.notes TO '{marker}';",
    "copy from file": "COPY public.notes FROM '/etc/passwd';",
    "lo_export": "SELECT lo_export(lo_from_bytea(0, 'x'), '{marker}');",
    "lo_import": "SELECT lo_import('/etc/passwd');",
    "pg_read_file": "SELECT pg_read_file('/etc/passwd');",
    "pg_ls_dir": "SELECT pg_ls_dir('/');",
    "C function": "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '{marker}', 'f';",
    "internal function": "CREATE FUNCTION f(text) RETURNS int LANGUAGE internal AS 'pg_read_file_all';",
    "untrusted language": "CREATE EXTENSION plpython3u; CREATE FUNCTION f() RETURNS int LANGUAGE plpython3u AS '';",
    "load": "LOAD '{marker}';",
    "dblink": "CREATE EXTENSION dblink;",
    "file_fdw": "CREATE EXTENSION file_fdw;",
    "postgres_fdw": "CREATE EXTENSION postgres_fdw;",
    "foreign data wrapper": "CREATE FOREIGN DATA WRAPPER w;",
    "tablespace": "CREATE TABLESPACE t LOCATION '{marker}';",
    "subscription": "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false);",
}

ROLES = {
    "set role": "SET ROLE postgres;",
    "set role of the owner": "SET ROLE {owner};",
    "reset role first": "RESET ROLE; SET ROLE postgres;",
    "set session authorization": "SET SESSION AUTHORIZATION DEFAULT; SET ROLE postgres;",
    "alter role": "ALTER ROLE {owner} SUPERUSER;",
    "alter itself": "ALTER ROLE CURRENT_USER CREATEROLE;",
    "password of the owner": "ALTER ROLE {owner} PASSWORD 'known';",
    "create role": "CREATE ROLE hostile SUPERUSER LOGIN;",
    "create plain role": "CREATE ROLE hostile;",
    "drop owned": "DROP OWNED BY {owner};",
    "reassign owned": "REASSIGN OWNED BY {owner} TO CURRENT_USER;",
    "grant in a block": "DO $$ BEGIN EXECUTE 'GRANT pg_execute_server_program TO ' || current_user; END $$;",
    "alter role in a block": "DO $$ BEGIN EXECUTE 'ALTER ROLE {owner} SUPERUSER'; END $$;",
    "program in a block": "DO $$ BEGIN EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch {marker}'''; END $$;",
}

SERVER = {
    "drop database": "DROP DATABASE {live};",
    "rename database": "ALTER DATABASE {live} RENAME TO gone;",
    "database setting": "ALTER DATABASE {live} SET session_preload_libraries = 'x';",
    "setting of its own database": "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET ALL', current_database()); END $$;",
    "create database": "CREATE DATABASE hostile;",
    "alter system": "ALTER SYSTEM SET archive_command = 'touch {marker}';",
    "setting of the server": "SET session_preload_libraries = 'x'; SET log_statement = 'none';",
    "reload": "SELECT pg_reload_conf();",
    "event trigger": "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
    " CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION e();",
    "terminate": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IS DISTINCT FROM current_user;",
    "cancel": "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename IS DISTINCT FROM current_user;",
    "checkpoint": "CHECKPOINT;",
    "catalog": "UPDATE pg_catalog.pg_authid SET rolsuper = true;",
    "replication slot": "SELECT pg_create_physical_replication_slot('s');",
    "commit and chain": "COMMIT AND CHAIN;",
    "chained transaction": "BEGIN; COMMIT AND CHAIN;",
    "open transaction": "BEGIN;",
    "broken transaction": "BEGIN; SELECT 1/0;",
    "prepared transaction": "BEGIN; PREPARE TRANSACTION 'hostile'; BEGIN;",
    "copy in lower case": "copy public.notes from stdin;\n9\tnine\n\\.\n",
    "copy to stdout": "COPY public.notes TO stdout;",
    "binary copy": "COPY public.notes FROM stdin WITH (FORMAT binary);",
}

LEFT_OUT = {
    "grant": "GRANT pg_execute_server_program TO CURRENT_USER;",
    "grant of the owner": "GRANT {owner} TO CURRENT_USER;",
    "owner": "ALTER TABLE public.notes OWNER TO postgres;",
    "default privileges": "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO PUBLIC;",
    "session authorization": "SET SESSION AUTHORIZATION postgres;",
    "reset role": "RESET ROLE;",
    "rollback": "ROLLBACK;",
}
"""What has no effect in the sandbox, so that the restore goes through without it."""

REFUSED = COMMANDS | SERVER_FILES | ROLES | SERVER
