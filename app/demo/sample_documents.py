"""The sample app's documents: a folder for each user with invoices, titles, insurance papers, photos and notes."""

from __future__ import annotations

import os
import random
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

NEWEST = datetime(2026, 10, 31, tzinfo=UTC)
KINDS = (
    ("invoice", "pdf", "application/pdf"),
    ("photo", "jpg", "image/jpeg"),
    ("title", "pdf", "application/pdf"),
    ("photo", "jpg", "image/jpeg"),
    ("insurance", "pdf", "application/pdf"),
    ("note", "txt", "text/plain"),
)
TITLES = {
    "invoice": ("Oil change", "Winter tyres", "Brake pads", "Clutch", "Inspection"),
    "photo": ("Dent, left door", "Odometer", "In the garage", "Pässe-Tour"),
    "title": ("Registration", "Title"),
    "insurance": ("Policy", "Green card"),
    "note": ("Things to look at", "Service plan"),
}


@dataclass(frozen=True)
class SampleDocument:
    """One written file; `path` is relative to the documents folder, `size_bytes` its length."""

    user_id: uuid.UUID
    vehicle_id: uuid.UUID | None
    kind: str
    title: str
    path: str
    content_type: str
    size_bytes: int
    uploaded_at: datetime


def write_documents(
    folder: Path, garages: Mapping[uuid.UUID, Sequence[uuid.UUID]], per_user: int, chance: random.Random
) -> list[SampleDocument]:
    """Write `<user_id>/<file>` below the folder for each user and return what was written."""
    written = []
    for user_id, vehicles in garages.items():
        home = folder / str(user_id)
        home.mkdir(parents=True, exist_ok=True)
        for number in range(per_user):
            kind, suffix, content_type = KINDS[number % len(KINDS)]
            title = chance.choice(TITLES[kind])
            uploaded_at = NEWEST - timedelta(seconds=chance.randrange(900 * 86_400))
            name = f"{uploaded_at:%Y-%m-%d} {title.lower().replace(',', '')} {number + 1}.{suffix}"
            content = _content(chance, kind, suffix, title)
            path = home / name
            path.write_bytes(content)
            os.utime(path, (uploaded_at.timestamp(), uploaded_at.timestamp()))
            vehicle_id = chance.choice([*vehicles, None])
            relative = f"{user_id}/{name}"
            written.append(
                SampleDocument(user_id, vehicle_id, kind, title, relative, content_type, len(content), uploaded_at)
            )
    return written


def _content(chance: random.Random, kind: str, suffix: str, title: str) -> bytes:
    if suffix == "jpg":
        return _jpeg(chance, chance.randrange(20_000, 160_000))
    if suffix == "pdf":
        lines = [title, *(_line(chance) for _ in range(chance.randrange(8, 40)))]
        return _pdf(lines, scan=chance.randbytes(chance.randrange(2_000, 60_000)))
    lines = [f"{kind}: {title}", *(_line(chance) for _ in range(chance.randrange(5, 200)))]
    return "\n".join(lines).encode() + b"\n"


def _line(chance: random.Random) -> str:
    item = chance.choice(("Labour", "Oil 5W-30", "Filter", "Brake disc", "Disposal", "Small parts", "Seal"))
    return f"{item:<14}{chance.randrange(1, 6):>3} x {chance.randrange(300, 24_000) / 100:>9.2f} EUR"


def _jpeg(chance: random.Random, size: int) -> bytes:
    """Return bytes that look and compress like a photo: a JFIF header, noise, the end marker."""
    header = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x48\x00\x48\x00\x00"
    return header + chance.randbytes(size).replace(b"\xff", b"\xfe") + b"\xff\xd9"


def _pdf(lines: Sequence[str], scan: bytes) -> bytes:
    """Return a one-page PDF with these lines of text, and a scan as an attached stream that does not compress."""
    text = "BT /F1 10 Tf 14 TL 50 780 Td\n" + "\n".join(f"({_escape(line)}) Tj T*" for line in lines) + "\nET"
    page = zlib.compress(text.encode("latin-1", "replace"))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(scan), scan),
    ]
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    body += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    body += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(body)


def _escape(line: str) -> str:
    return line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
