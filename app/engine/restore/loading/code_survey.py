"""What code a dump says it brings, read from its text without executing it.

Code is whatever runs later, or while the dump is loaded, with the rights of some role: functions, triggers, rules, policies,
views, blocks, calls. `CodeSurvey` collects it for people, and remembers it by name, so that after loading the server's
catalogue can be asked for what was not announced (staged_code.py).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ...source.documents import shown
from ...source.names import unquoted
from .sql_loader import excerpt

CODE_KEPT = 200
"""How many statements are shown; the others are counted by kind."""

LONGEST_READ = 50_000
MOST_READ = 2_000_000
"""How many tokens are read of one statement, and in all, which takes seconds. What is left counts as not shown."""

MARKS_KEPT = 5
"""How many calls are named that an excerpt has cut off."""

_WORD = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+"
_TOKEN = re.compile(
    rb"(?P<blank>\s++|--[^\n]*+)"
    rb"|(?P<comment>/\*)"
    rb"|(?P<string>(?:[nN]|[uU]&)?'(?:[^']++|'')*+'?)"
    rb"|(?P<escaped>[eE]'(?:[^'\\]++|\\.|'')*+'?)"
    rb'|(?P<unicode>[uU]&"(?:[^"]++|"")*+"?)'
    rb'|(?P<quoted>"(?:[^"]++|"")*+"?)'
    rb"|(?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$)"
    rb"|(?P<word>" + _WORD + rb")"
    rb"|(?P<number>[0-9][A-Za-z0-9_.]*+)"
    rb"|(?P<mark>.)",
    re.DOTALL,
)
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_LITERAL = rb"(?:[eEbBxXnN]?'(?:[^']++|'')*+'|[-+]?[0-9][0-9.eE+-]*+|NULL|DEFAULT|true|false)"
_ROW = rb"\(\s*+(?:" + _LITERAL + rb"(?:\s*+,\s*+|(?=\s*+\))))*+\s*+\)"
_NAME = rb'(?:"(?:[^"]++|"")*+"|' + _WORD + rb")"
_PLAIN_INSERT = re.compile(
    rb"INSERT INTO " + _NAME + rb"(?:\." + _NAME + rb")?+ (?:\((?:" + _NAME + rb"(?:, )?+)++\) )?+"
    rb"(?:OVERRIDING (?:SYSTEM|USER) VALUE )?+VALUES\s*+" + _ROW + rb"(?:\s*+,\s*+" + _ROW + rb")*+"
    rb"(?:\s*+ON CONFLICT DO NOTHING)?+\s*+;?",
)
_PLAIN_SELECT = re.compile(
    rb"SELECT\s++(?:pg_catalog\.)?+(?:set_config|setval|lo_create|lo_creat|lo_open|lowrite|lo_close)\s*+"
    rb"\((?:\s*+(?:" + _LITERAL + rb")\s*+,?+)*+\)\s*+;?",
    re.IGNORECASE,
)
"""How pg_dump sets sequences and the search path, and writes large objects: literals, and no code."""

_DANGEROUS = re.compile(
    rb"(?:pg_|lo_|binary_upgrade_|brin_|gin_|txid_|query_to_xml|cursor_to_xml|table_to_xml|schema_to_xml|database_to_xml|dblink)"
    rb"\w*+|loread|lowrite|set_config|setval|ts_stat|ts_rewrite|currtid2?+",
    re.IGNORECASE,
)
"""Functions of PostgreSQL's own that do something, or execute a text that they are given. More names than there are."""

_RUNS_AT_ONCE = frozenset(
    b"do call select with values table execute prepare declare fetch move explain update delete merge insert notify listen "
    b"lock import".split()
)
_READ = _RUNS_AT_ONCE | {b"create", b"alter"}
_KINDS = {
    (b"function",): "function",
    (b"procedure",): "procedure",
    (b"aggregate",): "aggregate",
    (b"trigger",): "trigger",
    (b"constraint", b"trigger"): "trigger",
    (b"event", b"trigger"): "event trigger",
    (b"rule",): "rule",
    (b"policy",): "policy",
    (b"view",): "view",
    (b"recursive", b"view"): "view",
    (b"materialized", b"view"): "materialized view",
    (b"operator", b"class"): "operator class",
    (b"operator", b"family"): "operator family",
    (b"operator",): "operator",
    (b"cast",): "cast",
    (b"transform",): "transform",
    (b"conversion",): "conversion",
    (b"default", b"conversion"): "conversion",
    (b"extension",): "extension",
    (b"publication",): "publication",
    (b"subscription",): "subscription",
    (b"server",): "server",
    (b"foreign", b"data", b"wrapper"): "foreign data wrapper",
    (b"foreign", b"table"): "foreign table",
    (b"user", b"mapping"): "user mapping",
    (b"language",): "language",
    (b"procedural", b"language"): "language",
    (b"access", b"method"): "access method",
    (b"text", b"search", b"template"): "text search template",
    (b"text", b"search", b"parser"): "text search parser",
}
_NOT_A_KIND = frozenset(b"or replace temp temporary global local unlogged unique trusted recursive".split())
_ON_TABLE = {"trigger": b"on", "policy": b"on", "rule": b"to"}
_HAVE_EXPRESSIONS = frozenset(b"table domain index statistics type foreign sequence".split())
_NAMES_FOLLOW = frozenset(
    b"table only exists references on into from join type domain index to inherits of using update partition sequence "
    b"attach concurrently view key unique function procedure routine aggregate".split()
)


@dataclass(frozen=True)
class CodeKey:
    """What kind of code, its name, and for a trigger, rule or policy its table. A schema is "" where the dump names none."""

    kind: str
    schema: str
    name: str
    table_schema: str = ""
    table: str = ""


class CodeSurvey:
    """Collect the statements of a dump that bring or run code: `shown` as excerpts, `count` of them in all."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.count = 0
        self._more: Counter[str] = Counter()
        self._noted: set[CodeKey] = set()
        self._bodies: set[bytes] = set()
        self._functions: set[bytes] = set()
        self._left = MOST_READ
        self._marks: list[str] = []
        """What the statement at hand calls, and what else must not be cut off its excerpt."""

    def lines(self) -> list[str]:
        """Return what to show, with a line about what is beyond CODE_KEPT."""
        if not self._more:
            return list(self.shown)
        kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(self._more.items()))
        return [*self.shown, f"… and {self._more.total()} more: {kinds}."]

    def explains(self, key: CodeKey) -> bool:
        """Return whether the dump's text names this code."""
        return any(
            CodeKey(key.kind, schema, key.name, table_schema, key.table) in self._noted
            for schema in {key.schema, ""}
            for table_schema in {key.table_schema, ""}
        )

    def explains_kind(self, kind: str) -> bool:
        """Return whether the dump's text brings any code of a kind."""
        return any(key.kind == kind for key in self._noted)

    def explains_body(self, body: bytes) -> bool:
        """Return whether a function's source, in the dump's encoding, stands in the dump's text."""
        return _digest(body) in self._bodies

    def note(self, statement: bytes) -> None:
        """Take the next statement."""
        if _PLAIN_INSERT.fullmatch(statement) or _PLAIN_SELECT.fullmatch(statement):
            return
        self._marks = []
        first = next(_tokens(statement), None)
        if first is None or first.word not in _READ:
            return
        most = min(LONGEST_READ, self._left)
        tokens = list(itertools.islice(_tokens(statement), most + 1))
        self._left -= len(tokens)
        if len(tokens) > most:
            self._marks.append("too long to be read")
            self._show("too long to be read", statement)
        elif first.word in _RUNS_AT_ONCE:
            self._note_calls(CodeKey("statement", "", ""), tokens)
            self._show(first.word.decode().upper(), statement)
        else:
            self._note_definition(tokens, statement)

    def _show(self, kind: str, statement: bytes) -> None:
        self.count += 1
        if len(self.shown) < CODE_KEPT:
            short = excerpt(without_comments(statement))
            more = [mark for mark in dict.fromkeys(self._marks) if mark.removeprefix("calls ") not in short.lower()][
                :MARKS_KEPT
            ]
            self.shown.append(f"{short} [{', '.join(more)}]" if more else short)
        else:
            self._more[kind] += 1

    def _note_definition(self, tokens: list[_Token], statement: bytes) -> None:
        if tokens[0].word == b"create" and len(tokens) > 1 and tokens[1].word == b"schema":
            parts = list(_elements(tokens))
            for part in parts:
                self._note_one(part)
            if parts:
                self._show("schema with content", statement)
            return
        kind = self._note_one(tokens)
        if kind:
            self._show(kind, statement)

    def _note_one(self, tokens: list[_Token]) -> str:
        """Note what one CREATE or ALTER defines. Return its kind, or "" if it brings no code."""
        position = 1
        while position < len(tokens) and tokens[position].word in _NOT_A_KIND:
            position += 1
        kind, position = _kind(tokens, position)
        if kind and tokens[0].word == b"create":
            self._note_object(kind, tokens, position)
            return kind
        if kind:
            self._note_definer(_named(tokens, position), tokens)
            self._note_calls(_named(tokens, position), tokens)
            words = [token.word for token in tokens]
            return "" if (b"owner", b"to") in itertools.pairwise(words) or kind == "publication" else kind
        if position < len(tokens) and tokens[position].word in _HAVE_EXPRESSIONS:
            index = tokens[position].word == b"index"
            owner = _after(tokens, position + 1, b"on") if index else position + 1
            if tokens[position].word == b"statistics":
                owner = _after(tokens, position + 1, b"from")
            if self._note_calls(_named(tokens, owner), tokens):
                return "expression that calls a function"
        return ""

    def _note_object(self, kind: str, tokens: list[_Token], position: int) -> None:
        found = _named(tokens, position)
        if kind in _ON_TABLE:
            table = _named(tokens, _after(tokens, position + 1, _ON_TABLE[kind]))
            self._noted.add(CodeKey(kind, "", found.name, table.schema, table.name))
            self._note_calls(table, tokens)
            return
        self._noted.add(CodeKey(kind, found.schema, found.name))
        if kind in ("function", "procedure", "aggregate"):
            self._functions.add(found.name.encode("utf-8", "surrogateescape"))
            self._note_definer(found, tokens)
            for token in tokens:
                if token.text is not None:
                    self._bodies.add(_digest(token.text))
        self._note_calls(found, tokens)

    def _note_definer(self, found: CodeKey, tokens: list[_Token]) -> None:
        words = [token.word for token in tokens]
        if (b"security", b"definer") in itertools.pairwise(words):
            self._marks.append("security definer")
            self._noted.add(CodeKey("security definer", found.schema, found.name))

    def _note_calls(self, key: CodeKey, tokens: list[_Token]) -> bool:
        """Note what a statement about something calls. Return whether it calls what may do harm or code of the dump."""
        dangerous = calls = False
        for number, token in enumerate(tokens[:-1]):
            if token.name is None or tokens[number + 1].mark != b"(":
                continue
            is_qualified = number > 1 and tokens[number - 1].mark == b"."
            before = tokens[number - 3 if is_qualified and number > 2 else number - 1] if number else token
            if _DANGEROUS.fullmatch(token.name):
                dangerous = True
            elif before.word in _NAMES_FOLLOW:
                continue
            elif token.name in self._functions or (is_qualified and tokens[number - 2].name != b"pg_catalog"):
                calls = True
            else:
                continue
            self._marks.append(f"calls {shown(token.name.decode('utf-8', 'replace').lower())}")
        if dangerous:
            self._noted.add(CodeKey("dangerous call", key.schema, key.name))
        return dangerous or calls


def without_comments(statement: bytes) -> bytes:
    """Return a statement's text with each comment as one blank, so that none can push the code out of an excerpt."""
    parts, position = list[bytes](), 0
    for token in _tokens(statement[: 64 * 1024], with_comments=True):
        if token.is_comment:
            parts += [statement[position : token.start], b" "]
            position = token.end
    return b"".join(parts) + statement[position:]


@dataclass(frozen=True)
class _Token:
    """A token: a keyword in lower case as `word`, an identifier (keywords too) as `name`, a string's content as `text`."""

    start: int
    end: int
    word: bytes | None = None
    name: bytes | None = None
    text: bytes | None = None
    mark: bytes | None = None
    is_comment: bool = False


def _tokens(statement: bytes, with_comments: bool = False) -> Iterator[_Token]:
    position = 0
    while position < len(statement):
        match = _TOKEN.match(statement, position)
        assert match is not None
        kind, raw, start, position = match.lastgroup, match.group(), match.start(), match.end()
        if kind == "comment":
            position = _end_of_comment(statement, position)
            if with_comments:
                yield _Token(start, position, is_comment=True)
        elif kind == "blank":
            if with_comments and raw.startswith(b"--"):
                yield _Token(start, position, is_comment=True)
        elif kind == "word":
            lower = raw.lower()
            yield _Token(start, position, word=lower, name=lower)
        elif kind == "quoted":
            yield _Token(start, position, name=raw[1:-1].replace(b'""', b'"'))
        elif kind == "dollar":
            end = statement.find(raw, position)
            content = statement[position : end if end >= 0 else len(statement)]
            position = end + len(raw) if end >= 0 else len(statement)
            yield _Token(start, position, text=content)
        elif kind == "string":
            yield _Token(start, position, text=raw[1:-1].replace(b"''", b"'"))
        elif kind == "mark":
            yield _Token(start, position, mark=raw)
        else:
            yield _Token(start, position)


def _end_of_comment(statement: bytes, position: int) -> int:
    depth = 1
    for match in _COMMENT_MARK.finditer(statement, position):
        depth += 1 if match.group() == b"/*" else -1
        if depth == 0:
            return match.end()
    return len(statement)


def _kind(tokens: list[_Token], position: int) -> tuple[str, int]:
    """Return the kind of code that the words at a position name, if they do, and the position behind them."""
    for length in (3, 2, 1):
        words = tuple(token.word for token in tokens[position : position + length])
        if None not in words and words in _KINDS:
            return _KINDS[words], position + length  # type: ignore[index]
    return "", position


def _named(tokens: list[_Token], position: int) -> CodeKey:
    """Return the name that stands at a position, behind ONLY, IF EXISTS, IF NOT EXISTS or CONCURRENTLY."""
    while position < len(tokens) and tokens[position].word in (b"only", b"if", b"not", b"exists", b"concurrently"):
        position += 1
    parts: list[bytes] = []
    while position < len(tokens):
        token = tokens[position]
        if token.name is None and token.mark is not None and token.mark not in (b".", b"("):
            parts.append(_operator(tokens, position))
            break
        if token.name is None:
            break
        parts.append(token.name)
        if position + 1 >= len(tokens) or tokens[position + 1].mark != b".":
            break
        position += 2
    names = [unquoted(part) if not part.startswith(b'"') else part.decode("utf-8", "surrogateescape") for part in parts[-2:]]
    return CodeKey("", names[0] if len(names) == 2 else "", names[-1] if names else "")


def _operator(tokens: list[_Token], position: int) -> bytes:
    found = b""
    while position < len(tokens) and (mark := tokens[position].mark) is not None and mark in b"+-*/<>=~!@#%^&|`?":
        found += mark
        position += 1
    return found


def _after(tokens: list[_Token], position: int, word: bytes) -> int:
    """Return the position behind a keyword that stands outside of parentheses."""
    depth = 0
    for number in range(position, len(tokens)):
        token = tokens[number]
        depth += (token.mark == b"(") - (token.mark == b")")
        if token.word == word and depth <= 0:
            return number + 1
    return len(tokens)


def _elements(tokens: list[_Token]) -> Iterator[list[_Token]]:
    """Yield what a CREATE SCHEMA statement creates and grants inside, each as the tokens of a statement of its own."""
    depth, starts = 0, []
    for number, token in enumerate(tokens):
        depth += (token.mark == b"(") - (token.mark == b")")
        if number > 1 and depth <= 0 and token.word in (b"create", b"grant"):
            starts.append(number)
    for start, end in itertools.pairwise([*starts, len(tokens)]):
        yield tokens[start:end]


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()
