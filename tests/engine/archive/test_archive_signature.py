"""Whose archive it is: only one signed with our key counts as ours, and a forged manifest never does."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.archive.gzip_members import footer
from app.engine.archive.layout import manifest_member
from app.engine.archive.reader import open_archive, read_manifest
from app.engine.errors import ArchiveError
from app.engine.verify.verify import VerifyReport, verify_archive
from tests.support.archives import KEY, Archive

OTHER_KEY = b"another signing key"


def _text(values: dict[str, Any]) -> bytes:
    return json.dumps(values, indent=1, ensure_ascii=True, separators=(",", ": ")).encode() + b"\n"


def _values(archive: Archive) -> dict[str, Any]:
    with open_archive(archive.path) as reader:
        values: dict[str, Any] = json.loads(reader.manifest_text)
    return values


def _forged(archive: Archive, values: dict[str, Any], target: Path) -> Path:
    """Rewrite an archive with other manifest values, as somebody without the key would."""
    values = {name: value for name, value in values.items() if name != "checksum"}
    text = _text({**values, "checksum": hashlib.sha256(_text(values)).hexdigest()})
    with open_archive(archive.path) as reader:
        body = reader.read(0, reader.manifest_offset)
        mtime = int(reader.manifest.started_at.timestamp())
    member = b"".join(manifest_member(text, mtime))
    target.write_bytes(body + member + footer(len(body), len(member)))
    return target


def test_another_key_verifies_but_is_not_ours(small_archive: Archive) -> None:
    report = verify_archive(small_archive.path, OTHER_KEY)
    assert report.ok
    assert not report.signed
    assert report.manifest == read_manifest(small_archive.path, OTHER_KEY)


def test_read_manifest_tells_whose_it_is_only_with_a_key(small_archive: Archive) -> None:
    assert read_manifest(small_archive.path, KEY).signed is True
    assert read_manifest(small_archive.path, OTHER_KEY).signed is False
    assert read_manifest(small_archive.path).signed is None


def test_the_signature_is_the_hmac_that_the_format_describes(small_archive: Archive) -> None:
    values = _values(small_archive)
    assert list(values)[-2:] == ["signature", "checksum"]
    checksum = values.pop("checksum")
    assert checksum == hashlib.sha256(_text(values)).hexdigest()
    signature = values.pop("signature")
    assert signature == hmac.new(KEY, b"backup archive manifest, format 1\0" + _text(values), "sha256").hexdigest()


def test_raw_sha256_is_taken_in_the_order_that_the_format_describes(small_archive: Archive) -> None:
    data = small_archive.path.read_bytes()
    with open_archive(small_archive.path) as reader:
        head, end = reader.manifest.header_bytes, reader.manifest_offset
        assert reader.manifest.raw_sha256 == hashlib.sha256(data[head:end] + data[:head]).hexdigest()


def _other_app(values: dict[str, Any]) -> None:
    values["app"] = "another"


def _no_warnings(values: dict[str, Any]) -> None:
    values["warnings"] = ["all is well"]


def _a_label(values: dict[str, Any]) -> None:
    values["labels"] = {"note": "trust me"}


def _other_rows(values: dict[str, Any]) -> None:
    next(s for s in values["database"]["segments"] if s["kind"] == "copy" and s["rows"])["rows"] += 1


def _other_owner(values: dict[str, Any]) -> None:
    values["database"]["facts"]["owner"] = "postgres"


def _no_signature(values: dict[str, Any]) -> None:
    values["signature"] = ""


def _strange_signature(values: dict[str, Any]) -> None:
    values["signature"] = "ü"


@pytest.mark.parametrize(
    "change", [_other_app, _no_warnings, _a_label, _other_rows, _other_owner, _no_signature, _strange_signature]
)
def test_a_forged_manifest_is_not_signed(
    small_archive: Archive, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    values = _values(small_archive)
    change(values)
    path = _forged(small_archive, values, tmp_path / "forged.tar.gz")
    assert not verify_archive(path, KEY).signed


def test_a_forged_table_count_is_not_what_the_manifest_then_says(small_archive: Archive, tmp_path: Path) -> None:
    """`tables` repeats what the segments say: a manifest whose two lists differ must not verify."""
    values = _values(small_archive)
    values["tables"][0]["rows"] += 7
    report = verify_archive(_forged(small_archive, values, tmp_path / "forged.tar.gz"), KEY)
    assert not report.signed
    assert not report.ok


def test_a_checksum_that_does_not_fit_is_damage_not_a_foreign_key(small_archive: Archive, tmp_path: Path) -> None:
    values = _values(small_archive)
    values["signature"] = "0" * 64
    good = _forged(small_archive, values, tmp_path / "foreign.tar.gz")
    assert verify_archive(good, KEY).ok
    text = good.read_bytes().replace(b'"kind": "manual"', b'"kind": "unique"')
    bad = tmp_path / "damaged.tar.gz"
    bad.write_bytes(text)
    assert not verify_archive(bad, KEY).ok


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        return found + [leaf for name, below in value.items() for leaf in _leaves(below, (*path, name))]
    if isinstance(value, list):
        return found + [leaf for number, below in enumerate(value) for leaf in _leaves(below, (*path, number))]
    return found


_STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**200, 1.5, 1e308]),
    st.text(max_size=5),
    st.sampled_from([[], {}, [1], {"a": 1}, ["", None], "\ud800", "1970-01-01T00:00:00", "9999-12-31T23:59:59Z"]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_manifest_of_nonsense_never_counts_as_ours_and_never_raises(
    small_archive: Archive, tmp_path: Path, data: st.DataObject
) -> None:
    values = copy.deepcopy(_values(small_archive))
    leaf = data.draw(st.sampled_from([path for path in _leaves(values) if path[0] != "checksum"]))
    place = values
    for step in leaf[:-1]:
        place = place[step]
    before = place[leaf[-1]]
    place[leaf[-1]] = strange = data.draw(_STRANGE)
    path = _forged(small_archive, values, tmp_path / "forged.tar.gz")
    report: VerifyReport = verify_archive(path, KEY)
    assert report.signed is (strange == before and type(strange) is type(before))
    if report.manifest is None:
        with pytest.raises(ArchiveError):
            read_manifest(path, KEY)
    else:
        assert read_manifest(path, KEY).signed is report.signed
