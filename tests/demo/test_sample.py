"""The sample MotoVaultPro."""

from __future__ import annotations

import hashlib
from pathlib import Path

import psycopg

from app.demo.sample import SampleSize, fill_sample
from tests.support.databases import SourceDatabase, fresh_source, pg_dump

SMALL = SampleSize(users=4, fuel_logs_per_vehicle=6, maintenance_per_vehicle=3, documents_per_user=6)


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_sample_has_the_rows_it_was_asked_for(source_db: SourceDatabase, tmp_path: Path) -> None:
    assert fill_sample(source_db.url, tmp_path / "documents", SMALL)
    with psycopg.connect(source_db.url) as connection:
        counts = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("users", "vehicles", "fuel_logs", "maintenance_records", "documents", "garage")
        }
        longest = connection.execute("SELECT max(odometer_km) FROM fuel_logs").fetchone()
        assert connection.execute("SELECT max(odometer_km) FROM vehicles").fetchone() == longest
    assert counts == {
        "users": (4,),
        "vehicles": (8,),
        "fuel_logs": (48,),
        "maintenance_records": (24,),
        "documents": (24,),
        "garage": (8,),
    }


def test_each_document_row_has_its_file(source_db: SourceDatabase, tmp_path: Path) -> None:
    fill_sample(source_db.url, tmp_path, SMALL)
    with psycopg.connect(source_db.url) as connection:
        rows = connection.execute("SELECT storage_path, size_bytes FROM documents").fetchall()
    assert {path: (tmp_path / path).stat().st_size for path, _ in rows} == dict(rows)
    assert set(tree(tmp_path)) == {path for path, _ in rows}
    heads = {path.suffix: path.read_bytes()[:4] for path in tmp_path.rglob("*.*") if path.is_file()}
    assert heads[".pdf"] == b"%PDF"
    assert heads[".jpg"] == b"\xff\xd8\xff\xe0"


def test_sample_is_the_same_every_time(source_db: SourceDatabase, tmp_path: Path) -> None:
    fill_sample(source_db.url, tmp_path / "one", SMALL)
    with fresh_source(source_db.server) as other:
        fill_sample(other.url, tmp_path / "two", SMALL)
        second = pg_dump(other.bin_dir, other.url, "--data-only", "--exclude-table=schema_migrations", "--no-owner")
    first = pg_dump(source_db.bin_dir, source_db.url, "--data-only", "--exclude-table=schema_migrations", "--no-owner")
    assert first == second
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_filled_database_is_left_as_it_is(source_db: SourceDatabase, tmp_path: Path) -> None:
    fill_sample(source_db.url, tmp_path / "documents", SMALL)
    before = pg_dump(source_db.bin_dir, source_db.url)
    assert not fill_sample(source_db.url, tmp_path / "documents", SMALL, seed=1)
    assert pg_dump(source_db.bin_dir, source_db.url) == before


def test_new_fuel_log_advances_the_odometer(source_db: SourceDatabase, tmp_path: Path) -> None:
    fill_sample(source_db.url, tmp_path / "documents", SMALL)
    with psycopg.connect(source_db.url) as connection:
        row = connection.execute("SELECT id, odometer_km FROM vehicles LIMIT 1").fetchone()
        assert row is not None
        vehicle, odometer = row
        connection.execute(
            "INSERT INTO fuel_logs (vehicle_id, filled_at, odometer_km, litres, price_per_litre) "
            "VALUES (%s, now(), %s, 40, 1.5)",
            [vehicle, odometer + 300],
        )
        found = connection.execute("SELECT odometer_km FROM vehicles WHERE id = %s", [vehicle]).fetchone()
    assert found == (odometer + 300,)
