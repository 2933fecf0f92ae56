"""The benchmark's data: a seeded MotoVaultPro-like database and documents folder of adjustable size.

At scale 1.0 the plain dump is about 0.9 GB and the documents about 1 GB in 20,000 files: 55 % of their bytes photos
(do not compress), 25 % PDFs (compressed streams in a text frame), 20 % text, CSV and XML exports (compress well).
Everything follows from the seed, so two runs on two machines measure the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

MIB = 1024 * 1024

SCHEMA = """
CREATE TYPE fuel_type AS ENUM ('regular', 'midgrade', 'premium', 'diesel', 'electric', 'e85');
CREATE TABLE users (
    id bigint PRIMARY KEY, email text NOT NULL UNIQUE, display_name text NOT NULL, created_at timestamptz NOT NULL,
    preferences jsonb NOT NULL);
CREATE TABLE vehicles (
    id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, vin text UNIQUE, make text NOT NULL,
    model text NOT NULL, year integer NOT NULL, license_plate text, odometer_reading integer NOT NULL,
    created_at timestamptz NOT NULL);
CREATE TABLE fuel_logs (
    id bigint PRIMARY KEY, vehicle_id bigint NOT NULL REFERENCES vehicles, logged_at timestamptz NOT NULL,
    odometer integer NOT NULL, fuel fuel_type NOT NULL, volume numeric(8,3) NOT NULL, price numeric(8,3) NOT NULL,
    total_cost numeric(10,2) NOT NULL, latitude double precision, longitude double precision, station text, notes text);
CREATE TABLE maintenance_records (
    id uuid PRIMARY KEY, vehicle_id bigint NOT NULL REFERENCES vehicles, category text NOT NULL, performed_at date NOT NULL,
    odometer integer, cost numeric(10,2), shop_name text, notes text, created_at timestamptz NOT NULL);
CREATE TABLE documents (
    id uuid PRIMARY KEY, user_id bigint NOT NULL REFERENCES users, vehicle_id bigint REFERENCES vehicles,
    title text NOT NULL, storage_path text NOT NULL UNIQUE, size_bytes bigint NOT NULL, details jsonb);
"""
INDEXES = """
CREATE INDEX fuel_logs_vehicle ON fuel_logs (vehicle_id, logged_at);
CREATE INDEX maintenance_vehicle ON maintenance_records (vehicle_id, performed_at);
CREATE INDEX documents_vehicle ON documents (vehicle_id);
"""
WORDS = """
oil filter changed brake pads front rear inspected replaced rotors tire rotation alignment coolant flush transmission fluid
battery tested terminal cleaned spark plugs ignition coil air cabin wiper blades headlight bulb customer reported noise when
turning left test drive ok no codes stored next service due at miles torque checked belt tensioner water pump gasket leak
minor seepage monitor warranty invoice paid cash card receipt highway city mileage trip vacation commute premium station
price rounding full tank partial fill cold start synthetic 5W-30 0W-20 OEM aftermarket bracket hose clamp sensor oxygen
catalytic converter exhaust muffler seat
""".split()  # noqa: SIM905
MODELS = [
    (make, model)
    for make, models in {
        "Toyota": "Corolla Camry RAV4 Tacoma Prius", "Honda": "Civic Accord CR-V Pilot", "Ford": "F-150 Focus Escape",
        "BMW": "320i X3 R1250GS", "Volkswagen": "Golf Passat Tiguan", "Subaru": "Outback Forester", "Yamaha": "MT-07 XSR900",
    }.items()
    for model in models.split()
]  # fmt: skip
STATIONS = ["Shell", "Exxon", "Costco", "BP", "Chevron", "Circle K", "Aral", "TotalEnergies", "Esso", "Speedway"]
EPOCH = datetime(2019, 1, 1, tzinfo=UTC)


def sentence(rng: random.Random, low: int, high: int) -> str:
    """Return a number of workshop words within a range."""
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _moment(rng: random.Random) -> datetime:
    return EPOCH + timedelta(seconds=rng.randrange(7 * 365 * 86400), microseconds=rng.randrange(1_000_000))


def _fuel_rows(rng: random.Random, count: int, vehicles: int) -> Iterator[bytes]:
    choices, fuels = rng.random, ["regular", "regular", "regular", "midgrade", "premium", "diesel", "electric", "e85"]
    odometer = [0] * (vehicles + 1)
    for number in range(1, count + 1):
        vehicle = int(choices() * vehicles) + 1
        odometer[vehicle] += 50 + int(choices() * 500)
        volume, price = 5 + choices() * 60, 2.4 + choices() * 2.5
        notes = sentence(rng, 2, 9) if number % 3 == 0 else "\\N"
        fuel = fuels[int(choices() * 8)]
        yield (
            f"{number}\t{vehicle}\t{_moment(rng).isoformat(' ')}\t{odometer[vehicle]}\t{fuel}\t{volume:.3f}\t"
            f"{price:.3f}\t{volume * price:.2f}\t{25 + choices() * 24:.6f}\t{-124 + choices() * 57:.6f}\t"
            f"{STATIONS[int(choices() * 10)]} #{int(choices() * 9000)}\t{notes}\n"
        ).encode()


def _maintenance_rows(rng: random.Random, count: int, vehicles: int) -> Iterator[bytes]:
    for _ in range(count):
        day = (EPOCH + timedelta(days=rng.randrange(2555))).date()
        yield (
            f"{_uuid(rng)}\t{rng.randint(1, vehicles)}\t{rng.choice(WORDS)}\t{day}\t{rng.randrange(300000)}\t"
            f"{rng.random() * 900:.2f}\t{rng.choice(WORDS).title()} Garage\t{sentence(rng, 10, 60)}\t{_moment(rng)}\n"
        ).encode()


def fill_database(connection: psycopg.Connection, scale: float, seed: int = 20261123) -> None:
    """Create and fill the sample in an empty database so that its plain dump is scale × 0.9 GB."""
    rng = random.Random(seed)
    users, vehicles = max(20, int(20_000 * scale)), max(60, int(60_000 * scale))
    with connection.cursor() as cursor:
        cursor.execute(SCHEMA)

        def load(table: str, rows: Iterator[bytes]) -> None:
            with cursor.copy(f"COPY {table} FROM STDIN") as copy:
                buffer = bytearray()
                for row in rows:
                    buffer += row
                    if len(buffer) > MIB:
                        copy.write(bytes(buffer))
                        buffer.clear()
                copy.write(bytes(buffer))

        load("users", (
            f"{n}\towner{n}@example.org\t{rng.choice(WORDS).title()} {rng.choice(WORDS).title()}\t{_moment(rng)}\t"
            f'{{"units": "{rng.choice(["metric", "imperial"])}", "currency": "USD", "tier": {rng.randrange(3)}}}\n'.encode()
            for n in range(1, users + 1)))  # fmt: skip
        load("vehicles", (
            f"{n}\t{rng.randint(1, users)}\t{rng.getrandbits(80):017X}\t{make}\t{model}\t{rng.randint(1995, 2026)}\t"
            f"{rng.randrange(36**6):06X}\t{rng.randrange(300000)}\t{_moment(rng)}\n".encode()
            for n, (make, model) in ((n, rng.choice(MODELS)) for n in range(1, vehicles + 1))))  # fmt: skip
        load("fuel_logs", _fuel_rows(rng, max(400, int(4_100_000 * scale)), vehicles))
        load("maintenance_records", _maintenance_rows(rng, max(100, int(750_000 * scale)), vehicles))
        load("documents", (
            f"{_uuid(rng)}\t{rng.randint(1, users)}\t\\N\t{sentence(rng, 2, 6)}\t"
            f"documents/{n}\t{rng.randrange(10**6)}\t\\N\n".encode()
            for n in range(max(20, int(20_000 * scale)))))  # fmt: skip
        cursor.execute(INDEXES)
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM (FREEZE, ANALYZE)")


def _photo(rng: random.Random, size: int) -> bytes:
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + rng.randbytes(size) + b"\xff\xd9"


def _pdf(rng: random.Random, size: int) -> bytes:
    parts, written, number = [b"%PDF-1.7\n"], 0, 1
    while written < size:
        stream = rng.randbytes(min(size, rng.randint(4_000, 60_000)))
        text = sentence(rng, 40, 400).encode()
        parts.append(
            b"%d 0 obj\n<< /Type /Page /Contents (%s) /Filter /FlateDecode /Length %d >>\nstream\n"
            % (number, text, len(stream))
        )
        parts += [stream, b"\nendstream\nendobj\n"]
        written += len(stream) + len(text)
        number += 1
    return b"".join([*parts, b"%%EOF\n"])


def _export(rng: random.Random, size: int) -> bytes:
    lines, written = [], 0
    while written < size:
        facts = f"{_moment(rng).isoformat()},{rng.randrange(300000)},{rng.random() * 90:.3f},{rng.choice(STATIONS)}"
        line = f"{facts},{sentence(rng, 3, 15)}\n"
        lines.append(line)
        written += len(line)
    return "".join(lines).encode()


def fill_documents(folder: Path, scale: float, seed: int = 20261123) -> None:
    """Write scale × 20,000 files of about scale × 1 GB below `<user_id>/`."""
    rng = random.Random(seed + 1)
    mean = 1_000_000_000 / 20_000
    kinds = [(_photo, "jpg", 0.25, 0.55), (_pdf, "pdf", 0.30, 0.25), (_export, "csv", 0.45, 0.20)]
    for number in range(max(20, int(20_000 * scale))):
        make, suffix, share, bytes_share = rng.choices(kinds, weights=[kind[2] for kind in kinds])[0]
        size = max(200, int(rng.lognormvariate(-0.32, 0.8) * mean * bytes_share / share))
        place = folder / str(rng.randint(1, max(20, int(2_000 * scale))))
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}-{rng.choice(WORDS)}.{suffix}").write_bytes(make(rng, size))
