"""Helpers of the tests: databases, programs of a PostgreSQL version, processes, documents."""
