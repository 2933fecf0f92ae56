"""Find the boundaries of SQL statements in a stream, as psql's own scanner (psqlscan.l) does.

Knows quotes, E'' strings, quoted identifiers, dollar quotes, nested comments, parentheses and the BEGIN ATOMIC bodies of
SQL-standard functions. Assumes standard_conforming_strings = on, which every pg_dump since 9.1 sets.

The time is linear in the text, however it is cut: the scanned part of an unfinished token is not scanned again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_BLANK = re.compile(rb"[ \t\r\n\f\v]*")
_TOKEN = re.compile(
    rb"(?P<word>[A-Za-z_\x80-\xff])"
    rb"|(?P<number>[0-9])"
    rb"|(?P<dollar>\$)"
    rb"|(?P<comment>--|/\*)"
    rb"|(?P<mark>['\"();])"
    rb"|(?P<other>[^A-Za-z0-9_\x80-\xff$'\"();/-]+|[/-])"
)
_WORD_REST = re.compile(rb"[A-Za-z0-9_$\x80-\xff]*")
_NUMBER_REST = re.compile(rb"[A-Za-z0-9_.]*")
_TAG_REST = re.compile(rb"[A-Za-z0-9_\x80-\xff]*")
_ESCAPED_TEXT = re.compile(rb"(?:[^'\\]+|\\.|'')*", re.DOTALL)
_COMMENT_MARK = re.compile(rb"/\*|\*/")
LONGEST_TAG = 1024
"""Of a dollar quote, in bytes. pg_dump's own have a few; searching for one of megabytes repeatedly would take long."""


def _many(word_guard: bytes = b"") -> bytes:
    """Return a pattern for whole tokens that neither end a statement nor affect the following ones: words (except those
    that the guard excludes), numbers, closed strings, and parentheses with nothing else between them."""
    tokens = (
        rb"[^A-Za-z0-9_\x80-\xff$'\"();/-]+"
        rb"|" + word_guard + rb"(?![eE]')[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+(?!\Z)"
        rb"|[0-9][A-Za-z0-9_.]*+(?!\Z)"
        rb"|'[^']*+'|\"[^\"]*+\""
        rb"|-(?!-|\Z)|/(?!\*|\Z)|\$(?=[0-9])"
    )
    return rb"(?:" + tokens + rb"|\((?:" + tokens + rb")*+\))*+"


_MANY = re.compile(_many())
_MANY_IN_ROUTINE = re.compile(_many(rb"(?!(?i:begin|atomic|case|end)(?![A-Za-z0-9_$\x80-\xff]))"))
_SIMPLE_STATEMENT = re.compile(
    rb"(?!(?i:create|or|replace)(?![A-Za-z0-9_$\x80-\xff]))(?=[A-Za-z_\x80-\xff])" + _many() + rb";"
)
# Python 3.11.0 and 3.11.1 overrun with a possessive repeat whose last iteration fails (python/cpython#100061).
_CAN_SKIP = re.match(rb"(?:.(?!D))*+", b"ABCDE").end() == 2  # type: ignore[union-attr]


_ESCAPED, _BLOCK, _COMMAND = b"E''", b"*/", b"\\"


class Statement(NamedTuple):
    """A statement's own text, without what precedes it, and the position after its end in all bytes fed."""

    text: bytes
    end: int
    is_meta_command: bool = False


class StatementScanner:
    """Yield the statements that chunks complete. Comments between statements are left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._base = 0
        self._position = 0
        self._searched = 0
        """How far the word, number or dollar tag that begins at the position was scanned."""
        self._inside: bytes | None = None
        """The enclosing token at the position, by its end: a quote, a dollar tag, a line feed (a comment), or _ESCAPED,
        _BLOCK, _COMMAND."""
        self._depth = 0
        self._reset()

    def _reset(self) -> None:
        self._start: int | None = None
        self._parentheses = 0
        self._bodies = 0
        self._first_words: list[bytes] = []
        self._is_routine: bool | None = None
        """Whether the statement is CREATE FUNCTION or PROCEDURE; None until its first words are known."""
        self._last_word = b""

    @property
    def unfinished(self) -> bytes:
        """Return the unfinished statement: empty at a clean end of input."""
        return bytes(self._buffer[self._position if self._start is None else self._start :]).strip()

    def feed(self, chunk: bytes | memoryview) -> None:
        """Add a chunk to the input."""
        passed = self._position if self._start is None else self._start
        del self._buffer[:passed]
        self._base += passed
        self._position -= passed
        self._searched = max(0, self._searched - passed)
        if self._start is not None:
            self._start = 0
        self._buffer += chunk

    def statements(self, final: bool = False) -> Iterator[Statement]:
        """Yield each complete statement; `final`: no more input follows."""
        while (end := self._next_end(final)) is not None:
            assert self._start is not None
            text = bytes(self._buffer[self._start : end])
            self._position = end
            self._reset()
            yield Statement(text, self._base + end, text.startswith(b"\\"))

    def _next_end(self, final: bool) -> int | None:  # noqa: C901 - the state machine of a byte scanner, in its hot path
        buffer = self._buffer
        while True:
            if self._inside is not None:
                inside = self._inside
                if not self._leave(inside, final):
                    return None
                self._inside = None
                if inside is _COMMAND:
                    return self._position
            if self._start is None:
                blank = _BLANK.match(buffer, self._position)
                assert blank is not None
                self._position = blank.end()
                if buffer.startswith(b"\\", self._position):
                    self._start, self._inside = self._position, _COMMAND
                    continue
                if _CAN_SKIP and not self._searched and (simple := _SIMPLE_STATEMENT.match(buffer, self._position)):
                    self._start = self._position
                    return simple.end()
            elif self._is_routine is not None and not self._searched and _CAN_SKIP:
                self._skip_many()
            match = _TOKEN.match(buffer, self._position)
            if match is None or (match.group() in (b"-", b"/") and match.end() == len(buffer) and not final):
                return None
            after = self._step(match, final)
            if after is None:
                return None
            self._position, self._searched = after, 0
            if match.lastgroup == "comment":
                continue
            if self._start is None:
                self._start = match.start()
            if self._parentheses == 0 and self._bodies == 0 and match.group() == b";":
                return after

    def _skip_many(self) -> None:
        """Skip irrelevant tokens at once, which is thirty times as fast as one by one."""
        pattern = _MANY_IN_ROUTINE if self._is_routine else _MANY
        match = pattern.match(self._buffer, self._position)
        assert match is not None
        if self._last_word:
            blank = _BLANK.match(self._buffer, self._position)
            assert blank is not None
            if blank.end() < match.end():
                self._last_word = b""
        self._position = match.end()

    def _step(self, match: re.Match[bytes], final: bool) -> int | None:
        """Return the position after the token that begins with `match`, or after its opening mark if a closing one must
        follow; None if that takes more input."""
        token, after = match.group(), match.end()
        kind = match.lastgroup
        if kind == "word":
            end = self._end_of_run(_WORD_REST, after, final)
            return None if end is None else self._word(bytes(self._buffer[match.start() : end]), end)
        if kind == "comment":
            self._inside, self._depth = (b"\n" if token == b"--" else _BLOCK), 1
            return after
        if token.strip():
            self._last_word = b""
        if kind == "number":
            return self._end_of_run(_NUMBER_REST, after, final)
        if kind == "dollar":
            end = self._end_of_run(_TAG_REST, after, final)
            if end is None:
                return None
            is_tag = self._buffer.startswith(b"$", end) and not self._buffer[after : after + 1].isdigit()
            if not is_tag or end - after > LONGEST_TAG:
                return after
            self._inside = bytes(self._buffer[match.start() : end + 1])
            return end + 1
        if token in (b"'", b'"'):
            self._inside = token  # a doubled quote ends one string and begins the next at once, with the same result
        elif token == b"(":
            self._parentheses += 1
        elif token == b")":
            self._parentheses = max(0, self._parentheses - 1)
        return after

    def _word(self, word: bytes, end: int) -> int:
        if word in (b"E", b"e") and self._buffer.startswith(b"'", end):
            self._inside = _ESCAPED
            return end + 1
        word = word.lower()
        if self._is_routine is None:
            self._note_first(word)
        if self._is_routine:
            self._count_body(word)
        self._last_word = word
        return end

    def _end_of_run(self, rest: re.Pattern[bytes], position: int, final: bool) -> int | None:
        """Return where a run of characters ends, or None if it may continue in the next chunk."""
        match = rest.match(self._buffer, max(position, self._searched))
        assert match is not None
        if match.end() < len(self._buffer) or final:
            return match.end()
        self._searched = match.end()
        return None

    def _leave(self, inside: bytes, final: bool) -> bool:
        """Advance to the end of the enclosing token, as far as it was fed. Return whether it has ended."""
        buffer = self._buffer
        if inside is _BLOCK:
            for mark in _COMMENT_MARK.finditer(buffer, self._position):
                self._position = mark.end()
                self._depth += 1 if mark.group() == b"/*" else -1
                if self._depth == 0:
                    return True
            self._position = max(self._position, len(buffer) - 1)
        elif inside is _ESCAPED:
            text = _ESCAPED_TEXT.match(buffer, self._position)
            assert text is not None
            # It is followed by the closing quote, which may be the first half of a doubled one, by half an escape, or by
            # nothing.
            self._position = text.end()
            if text.end() + 1 < len(buffer):
                self._position += 1
                return True
        else:
            mark_bytes = b"\n" if inside is _COMMAND else inside
            found = buffer.find(mark_bytes, self._position)
            if found >= 0:
                self._position = found + len(mark_bytes)
                return True
            self._position = max(self._position, len(buffer) - len(mark_bytes) + 1)
        if final:
            self._position = len(buffer)
        return final

    def _note_first(self, word: bytes) -> None:
        """Determine from its first words whether the statement is CREATE [OR REPLACE] FUNCTION or PROCEDURE."""
        self._first_words.append(word)
        words = [first for first in self._first_words if first not in (b"or", b"replace")]
        if words[:1] not in ([], [b"create"]) or len(words) == 2 or len(self._first_words) == 4:
            self._is_routine = words[0:1] == [b"create"] and words[1:2] in ([b"function"], [b"procedure"])

    def _count_body(self, word: bytes) -> None:
        """Follow BEGIN ATOMIC … END in CREATE FUNCTION and PROCEDURE, where a semicolon does not end the statement.

        BEGIN alone may be the name of a parameter or a column, which pg_dump leaves unquoted; END and CASE are reserved.
        """
        opens_body = word == b"atomic" and self._last_word == b"begin" and not self._bodies and not self._parentheses
        if opens_body or (word == b"case" and self._bodies):
            self._bodies += 1
        elif word == b"end" and self._bodies:
            self._bodies -= 1
