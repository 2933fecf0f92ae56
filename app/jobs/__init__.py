"""Thin shells that a worker runs: claim, engine, close; a heartbeat; nothing else. Each takes an id as text."""
