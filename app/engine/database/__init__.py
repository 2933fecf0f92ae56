"""Reading a database: the snapshot, pg_dump, and its text cut and packed."""
