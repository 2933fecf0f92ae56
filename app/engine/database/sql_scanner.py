"""Where one SQL statement ends and the next begins, in a stream, as psql's own scanner (psqlscan.l) sees it.

Knows quotes, E'' strings, quoted identifiers, dollar quotes, nested comments, parentheses and the BEGIN ATOMIC bodies of
SQL-standard functions. Assumes standard_conforming_strings = on, which every pg_dump since 9.1 sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLANK = re.compile(rb"[ \t\r\n\f\v]*")
_TOKEN = re.compile(
    rb"(?P<word>[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)"
    rb"|(?P<number>[0-9][A-Za-z0-9_.]*)"
    rb"|(?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$)"
    rb"|(?P<comment>--|/\*)"
    rb"|(?P<mark>['\"();])"
    rb"|(?P<other>[^A-Za-z0-9_\x80-\xff$'\"();/-]+|[$/-])"
)
_TAG_BEGUN = re.compile(rb"\$[A-Za-z0-9_\x80-\xff]*\Z")
_ESCAPED_STRING_END = re.compile(rb"(?:[^'\\]+|\\.|'')*+'", re.DOTALL)
_COMMENT_MARK = re.compile(rb"/\*|\*/")


@dataclass(frozen=True)
class Statement:
    """A statement's own text, without what stands before it, and the position behind its end in all bytes fed."""

    text: bytes
    end: int
    is_meta_command: bool = False


class StatementScanner:
    """Fed with chunks, yields the statements they complete. Comments between statements are left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._base = 0
        self._position = 0
        self._searched = 0
        self._reset()

    def _reset(self) -> None:
        self._start: int | None = None
        self._parentheses = 0
        self._bodies = 0
        self._first_words: list[bytes] = []
        self._last_word = b""

    @property
    def unfinished(self) -> bytes:
        """Return what has begun and not ended: empty at a clean end of input."""
        return bytes(self._buffer[self._position if self._start is None else self._start :]).strip()

    def feed(self, chunk: bytes) -> None:
        """Add a chunk to what is to be scanned."""
        passed = self._position if self._start is None else self._start
        del self._buffer[:passed]
        self._base += passed
        self._position -= passed
        self._searched = max(0, self._searched - passed)
        if self._start is not None:
            self._start = 0
        self._buffer += chunk

    def statements(self, final: bool = False) -> Iterator[Statement]:
        """Yield each statement that is complete; `final` tells that nothing will be fed any more."""
        while (end := self._next_end(final)) is not None:
            assert self._start is not None
            text = bytes(self._buffer[self._start : end])
            self._position = end
            self._reset()
            yield Statement(text, self._base + end, text.startswith(b"\\"))

    def _next_end(self, final: bool) -> int | None:
        buffer = self._buffer
        while True:
            if self._start is None:
                blank = _BLANK.match(buffer, self._position)
                assert blank is not None
                self._position = blank.end()
                if buffer.startswith(b"\\", self._position):
                    return self._end_of_meta_command(final)
            match = _TOKEN.match(buffer, self._position)
            if match is None:
                return None
            kind, token = match.lastgroup, match.group()
            cut = match.end() == len(buffer) or (token == b"$" and _TAG_BEGUN.match(buffer, match.start()))
            if cut and not final and kind != "mark":
                return None
            after = self._step(match, final)
            if after is None:
                return None
            self._position = after
            self._searched = 0
            if kind == "comment":
                continue
            if self._start is None:
                self._start = match.start()
            if token == b";" and self._parentheses == 0 and self._bodies == 0:
                return after

    def _end_of_meta_command(self, final: bool) -> int | None:
        newline = self._buffer.find(b"\n", self._position)
        if newline < 0 and not final:
            return None
        self._start = self._position
        return newline + 1 if newline >= 0 else len(self._buffer)

    def _step(self, match: re.Match[bytes], final: bool) -> int | None:
        """Given a token, return the position behind what it begins, or None if that lies beyond the buffer."""
        token, after = match.group(), match.end()
        kind = match.lastgroup
        if kind == "word":
            if token in (b"E", b"e") and self._buffer.startswith(b"'", after):
                return self._end_of_escaped_string(after + 1, final)
            self._count_body(token.lower())
            self._last_word = token.lower()
            return after
        if kind == "comment":
            return self._end_of(b"\n", after, final) if token == b"--" else self._end_of_block(after, final)
        if token.strip():
            self._last_word = b""
        if kind == "dollar" or token in (b"'", b'"'):
            # A doubled quote ends one string and begins the next at once, which comes to the same.
            return self._end_of(token, after, final)
        if token == b"(":
            self._parentheses += 1
        elif token == b")":
            self._parentheses = max(0, self._parentheses - 1)
        return after

    def _end_of(self, mark: bytes, position: int, final: bool) -> int | None:
        """Return the position behind the next `mark`; what was searched in vain is not searched again."""
        found = self._buffer.find(mark, max(position, self._searched))
        if found >= 0:
            return found + len(mark)
        self._searched = max(position, len(self._buffer) - len(mark) + 1)
        return len(self._buffer) if final else None

    def _end_of_escaped_string(self, position: int, final: bool) -> int | None:
        match = _ESCAPED_STRING_END.match(self._buffer, position)
        if match:
            return match.end() if final or match.end() < len(self._buffer) else None
        return len(self._buffer) if final else None

    def _end_of_block(self, position: int, final: bool) -> int | None:
        depth = 1
        for match in _COMMENT_MARK.finditer(self._buffer, position):
            depth += 1 if match.group() == b"/*" else -1
            if depth == 0:
                return match.end()
        return len(self._buffer) if final else None

    def _count_body(self, word: bytes) -> None:
        """Follow BEGIN ATOMIC … END in CREATE FUNCTION and PROCEDURE, where a semicolon does not end the statement.

        BEGIN alone may be the name of a parameter or a column, which pg_dump leaves unquoted; END and CASE are reserved.
        """
        if len(self._first_words) < 4:
            self._first_words.append(word)
        words = [w for w in self._first_words if w not in (b"or", b"replace")]
        if words[:1] != [b"create"] or len(words) < 2 or words[1] not in (b"function", b"procedure"):
            return
        opens_body = word == b"atomic" and self._last_word == b"begin" and not self._bodies and not self._parentheses
        if opens_body or (word == b"case" and self._bodies):
            self._bodies += 1
        elif word == b"end" and self._bodies:
            self._bodies -= 1
