"""Making, keeping and restoring archives. Knows no Flask, no SQLAlchemy, no Redis and no other module of this app."""
