"""The helper that compares a server before and after a hostile archive sees what it is there for."""

from __future__ import annotations

from app.demo.servers import EmbeddedPostgres
from tests.support.cluster import changes, cluster_facts
from tests.support.databases import admin_connection, fresh_source


def test_it_sees_roles_settings_grants_and_owners(pg: EmbeddedPostgres) -> None:
    with fresh_source(pg) as source, admin_connection(pg, source.name) as inside:
        inside.execute(
            "CREATE TABLE t (id int); SELECT lo_create(4711); CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1"
        )
        before = cluster_facts(pg)
        assert changes(before, cluster_facts(pg)) == {}
        steps = {
            f"ALTER ROLE {source.user} PASSWORD 'other'": "roles",
            f"GRANT pg_monitor TO {source.user}": "memberships",
            f"ALTER ROLE {source.user} SET work_mem = '5MB'": "settings of roles and databases",
            f"GRANT CREATE ON DATABASE {source.name} TO pg_monitor": "databases",
            "GRANT SELECT (id) ON t TO pg_monitor": f"pg_attribute in {source.name}",
            f"ALTER TABLE t OWNER TO {source.user}": f"pg_class in {source.name}",
            "GRANT SELECT ON LARGE OBJECT 4711 TO pg_monitor": f"pg_largeobject_metadata in {source.name}",
            "ALTER FUNCTION f() SECURITY DEFINER": f"pg_proc in {source.name}",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor": f"pg_default_acl in {source.name}",
            f"COMMENT ON ROLE {source.user} IS 'x'": "comments on shared objects",
        }
        for statement, what in steps.items():
            inside.execute(statement.encode())
            after = cluster_facts(pg)
            assert what in changes(before, after), statement
            before = after
        assert not any(source.name in what for what in cluster_facts(pg, without=(source.name,)))
