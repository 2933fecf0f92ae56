"""A realistic MotoVaultPro: its database and its documents folder, the same for the same seed and size."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from app.demo.sample_documents import SampleDocument, write_documents

SCHEMA = Path(__file__).with_name("sample_schema.sql")
TODAY = datetime(2026, 10, 31, 12, 0, tzinfo=UTC)
VIN_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
FIRST_NAMES = ("Ada", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Giulia", "Jürgen", "Kenji", "Łukasz", "Nguyễn")
LAST_NAMES = ("Andersson", "Becker", "Costa", "Dubois", "Fischer", "García", "Haddad", "Ivanova", "Kowalski", "Tanaka")
STATIONS = ("Shell A4", "Aral Nordring", "Esso 24h", "Total Relais", "Supermarkt-Tankstelle", None)
SHOPS = ("Müller & Söhne", "QuickLube", "Garage du Lac", "at home", "Dealer")
MODELS = {
    "Volkswagen": ("Golf", "Passat", "Transporter"),
    "Toyota": ("Corolla", "Yaris", "Hilux"),
    "BMW": ("R 1250 GS", "320d", "i3"),
    "Škoda": ("Octavia", "Fabia"),
    "Honda": ("CB500X", "Civic"),
    "Renault": ("Zoé", "Clio"),
}
WORK = {
    "routine": ("Oil and filter", "Brake fluid", "Cabin filter"),
    "repair": ("Alternator replaced", "Water pump leaking", "Clutch"),
    "tyres": ("Winter tyres mounted", "New tyres, balanced"),
    "inspection": ("Periodic inspection passed", "Emissions test"),
    "upgrade": ("Tow bar", "Heated grips"),
}


@dataclass(frozen=True)
class SampleSize:
    """The amount of sample data: users, their vehicles' rows, and documents per user."""

    users: int = 40
    vehicles_per_user: int = 2
    fuel_logs_per_vehicle: int = 75
    maintenance_per_vehicle: int = 14
    documents_per_user: int = 9


@dataclass(frozen=True)
class Vehicle:
    id: uuid.UUID
    user_id: uuid.UUID
    row: tuple[object, ...]


def fill_sample(database_url: str, documents_dir: Path, size: SampleSize | None = None, seed: int = 2025) -> bool:
    """Create the sample app in an empty database and a folder.

    Return False, and change nothing, if the database already contains one. The rows are committed last, so that an
    interrupted run is repeated completely. Raise psycopg.Error or OSError.
    """
    size = size or SampleSize()
    chance = random.Random(seed)  # noqa: S311 - sample data, the same each time
    with psycopg.connect(database_url) as connection:
        if connection.execute("SELECT to_regclass('public.schema_migrations')").fetchone() != (None,):
            return False
        connection.execute(SCHEMA.read_bytes())
        users = [_user(chance, number) for number in range(size.users)]
        vehicles = [_vehicle(chance, user_id) for user_id, *_ in users for _ in range(size.vehicles_per_user)]
        _copy(connection, "users", "id email display_name unit_system preferences created_at updated_at", users)
        _copy(
            connection,
            "vehicles",
            "id user_id vin make model year nickname license_plate fuel purchased_on purchase_price tags updated_at",
            [vehicle.row for vehicle in vehicles],
        )
        _fill_logs(connection, chance, vehicles, size)
        documents = write_documents(documents_dir, _garages(vehicles), size.documents_per_user, chance)
        _copy(
            connection,
            "documents",
            "id user_id vehicle_id kind title storage_path content_type size_bytes uploaded_at",
            [_document_row(chance, document) for document in documents],
        )
        connection.execute("REFRESH MATERIALIZED VIEW monthly_fuel")
    return True


def _fill_logs(connection: psycopg.Connection, chance: random.Random, vehicles: Sequence[Vehicle], size: SampleSize) -> None:
    fuel: list[tuple[object, ...]] = []
    maintenance: list[tuple[object, ...]] = []
    for vehicle in vehicles:
        histories = _history(chance, vehicle, size.fuel_logs_per_vehicle, size.maintenance_per_vehicle)
        fuel += histories[0]
        maintenance += histories[1]
    _copy(connection, "fuel_logs", "vehicle_id filled_at odometer_km litres price_per_litre station notes", fuel)
    columns = "vehicle_id category done_on odometer_km title details shop cost"
    _copy(connection, "maintenance_records", columns, maintenance)
    # After the rows: triggers would only slow down the copy.
    connection.execute(
        "UPDATE vehicles v SET odometer_km = m.km FROM "
        "(SELECT vehicle_id, max(odometer_km) AS km FROM fuel_logs GROUP BY 1) m WHERE m.vehicle_id = v.id"
    )
    connection.execute(
        "CREATE TRIGGER fuel_logs_odometer AFTER INSERT ON fuel_logs FOR EACH ROW EXECUTE FUNCTION advance_odometer()"
    )


def _copy(connection: psycopg.Connection, table: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns.split()))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def _uuid(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(int=chance.getrandbits(128), version=4)


def _user(chance: random.Random, number: int) -> tuple[uuid.UUID, *tuple[object, ...]]:
    first, last = chance.choice(FIRST_NAMES), chance.choice(LAST_NAMES)
    created = TODAY - timedelta(days=chance.randrange(200, 1500), seconds=chance.randrange(86_400))
    preferences = Jsonb({"theme": chance.choice(["light", "dark"]), "reminders": {"days": chance.choice([7, 14, 30])}})
    units = chance.choice(["metric", "metric", "imperial"])
    return _uuid(chance), f"owner{number + 1}@example.org", f"{first} {last}", units, preferences, created, created


def _vehicle(chance: random.Random, user_id: uuid.UUID) -> Vehicle:
    vehicle_id = _uuid(chance)
    make = chance.choice(list(MODELS))
    year = chance.randrange(1998, 2026)
    plate = f"{''.join(chance.choices('ABDEFHKMN', k=2))}-{chance.randrange(100, 9999)}"
    row = (
        vehicle_id,
        user_id,
        "".join(chance.choices(VIN_LETTERS, k=17)),
        make,
        chance.choice(MODELS[make]),
        year,
        chance.choice([None, "the old one", "weekend car", 'called "Blitz"', "C:\\garage\\1"]),
        plate,
        chance.choice(["petrol", "petrol", "diesel", "electric", "hybrid", "lpg"]),
        date(year, chance.randrange(1, 13), chance.randrange(1, 28)),
        chance.randrange(150_000, 4_500_000) / 100,
        chance.sample(["daily", "track", "classic", "for sale", "shared"], k=chance.randrange(0, 3)),
        TODAY,
    )
    return Vehicle(vehicle_id, user_id, row)


def _history(
    chance: random.Random, vehicle: Vehicle, fills: int, services: int
) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    """Return a vehicle's fuel logs and maintenance records, oldest first, on one rising odometer."""
    odometer = chance.randrange(500, 90_000)
    when = TODAY - timedelta(days=11 * fills)
    price = chance.uniform(1.2, 1.6)
    fuel: list[tuple[object, ...]] = []
    for _ in range(fills):
        when += timedelta(days=chance.uniform(4, 18))
        odometer += chance.randrange(180, 720)
        price = min(2.4, max(1.1, price + chance.uniform(-0.05, 0.06)))
        notes = chance.choice([None] * 9 + ["half tank,\nforgot the card", "motorway\tprices"])
        fuel.append(
            (
                vehicle.id,
                when,
                odometer,
                f"{chance.uniform(12, 62):.3f}",
                f"{price:.3f}",
                chance.choice(STATIONS),
                notes,
            )
        )
    maintenance: list[tuple[object, ...]] = []
    for _ in range(services if fuel else 0):
        _, at, at_km, *_ = chance.choice(fuel)
        assert isinstance(at, datetime)
        category = chance.choice(list(WORK))
        details = chance.choice([None, "Parts brought along.", "Next check in 15,000 km; see invoice."])
        maintenance.append(
            (
                vehicle.id,
                category,
                at.date(),
                at_km,
                chance.choice(WORK[category]),
                details,
                chance.choice(SHOPS),
                chance.randrange(1_500, 180_000) / 100,
            )
        )
    return fuel, maintenance


def _garages(vehicles: Sequence[Vehicle]) -> dict[uuid.UUID, list[uuid.UUID]]:
    garages: dict[uuid.UUID, list[uuid.UUID]] = {}
    for vehicle in vehicles:
        garages.setdefault(vehicle.user_id, []).append(vehicle.id)
    return garages


def _document_row(chance: random.Random, document: SampleDocument) -> tuple[object, ...]:
    return (
        _uuid(chance),
        document.user_id,
        document.vehicle_id,
        document.kind,
        document.title,
        document.path,
        document.content_type,
        document.size_bytes,
        document.uploaded_at,
    )
