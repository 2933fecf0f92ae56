"""Stream the file in a request's body: the body itself, or the one file of a multipart form. Nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.errors import UnknownType

RAW_TYPES = {"application/gzip", "application/x-gzip", "application/octet-stream", "application/x-tar", ""}


class Broken(Exception):
    """The form is incomplete, or contains no file. str() says what to do."""


def parts_of(stream: IO[bytes], content_type: str, length: int | None, read_bytes: int) -> Iterator[bytes]:
    """Return the content of the file in a body of that Content-Type and length (bytes, if known), in parts of that size.

    Raise UnknownType at once; the iterator raises Broken, and what the stream raises when the client is gone.
    """
    kind, options = parse_options_header(content_type)
    name = kind.decode("latin-1").lower()
    if name in RAW_TYPES:
        return _raw(stream, length, read_bytes)
    boundary = options.get(b"boundary")
    if name == "multipart/form-data" and boundary:
        return _FileOfForm(boundary).parts(stream, read_bytes)
    raise UnknownType("Send the archive as the body with 'Content-Type: application/gzip', or as the file of a form.")


def _raw(stream: IO[bytes], length: int | None, read_bytes: int) -> Iterator[bytes]:
    done = 0
    while part := stream.read(read_bytes):
        done += len(part)
        yield part
    # A web server may mistake a dropped connection for the end of the body.
    if done and length is not None and done < length:
        raise Broken("The body ended early: the connection was lost. Send the archive again.")


class _FileOfForm:
    """Parse a multipart form and yield the content of its one file; other fields are skipped."""

    def __init__(self, boundary: bytes) -> None:
        self._content: list[bytes] = []
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._in_file = False
        self._files = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_begin": self._header_begins,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def parts(self, stream: IO[bytes], read_bytes: int) -> Iterator[bytes]:
        """Yield the file's content. Raise Broken."""
        while chunk := stream.read(read_bytes):
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise Broken("The form can't be read. Send the archive again, or as the body itself.") from error
            if self._files > 1:
                raise Broken("The form contains more than one file. Send one archive at a time.")
            yield from self._content
            self._content.clear()
        if not self._ended:
            raise Broken("The form ended early: the connection was lost. Send the archive again.")
        if not self._files:
            raise Broken("The form contains no file. Choose an archive.")

    def _part_begins(self) -> None:
        self._in_file = False

    def _header_begins(self) -> None:
        self._header = (bytearray(), bytearray())

    def _header_ends(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition" and b"filename" in parse_options_header(bytes(value))[1]:
            self._in_file = True
            self._files += 1

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._content.append(data[start:end])

    def _end(self) -> None:
        self._ended = True
