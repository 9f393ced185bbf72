"""YAML for recipes and parameter files: plain data of the 1.2 core schema, every value with its place.

What could surprise is refused instead of read: aliases and merge keys, with which a short text can stand for an endless
one, tags, which name types of a program, names that come twice, several documents, control characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn

from statex.core.record import record

_DEPTH = 50
_LONGEST_KEY = 1024
_LONGEST_NUMBER = 100
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]|\r(?!\n)")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {
    text: value for value, word in ((True, "true"), (False, "false")) for text in (word, word.title(), word.upper())
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
"""A leading zero, which means octal to some readers and decimal to others, makes a text."""
_FLOAT = re.compile(r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

Plain = None | bool | int | float | str


@record
class Scalar:
    """A value without parts, from the offset `start` to `end`.

    `style` is how it is written: `'`, `"`, `|`, `>`, or nothing where it is plain.
    """

    start: int
    end: int
    value: Plain
    style: str


@record
class Items:
    """A list."""

    start: int
    end: int
    items: tuple[Node, ...]


@record
class MappingEntry:
    """A key of a mapping and its value."""

    key: Scalar
    value: Node


@record
class Fields:
    """A mapping of texts to values."""

    start: int
    end: int
    entries: dict[str, MappingEntry]


Node = Scalar | Items | Fields


@record
class Limits:
    """How many characters and values a text may have; `written_keys` takes keys that read as numbers as their text."""

    length: int
    nodes: int
    written_keys: bool = False


class BadYaml(Exception):
    """What is wrong with a text, from the offset `start` to `end`, in words that show nothing of it but keys.

    `duplicate` is the place of the first of two equal keys.
    """

    def __init__(
        self, what: str, start: int, end: int | None = None, *, help: str = "", duplicate: tuple[int, int] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.start = start
        self.end = start + 1 if end is None else end
        self.help = help
        self.duplicate = duplicate


def parse_yaml(text: str, limits: Limits) -> Node:
    """Return the value of a text, `null` where it is empty.

    Raises:
        BadYaml: for the first thing that is wrong.
    """
    if len(text) > limits.length:
        raise BadYaml(f"this is too large: more than {limits.length:,} characters", 0)
    skipped = int(text.startswith("\ufeff"))
    strange = _UNPRINTABLE.search(text, skipped)
    if strange is not None:
        raise BadYaml(
            f"a control character, {_named(strange.group())}, cannot be read",
            strange.start(),
            help="in double quotes it can be written as an escape such as `\\t` or `\\u2028`",
        )
    return _Reader(text, skipped, limits).document()


def plain(node: Node) -> Any:
    """Return a value as dicts, lists, numbers and texts."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {name: plain(entry.value) for name, entry in node.entries.items()}


def resolve(text: str) -> Plain:
    """Return what a plain scalar stands for by the core schema of YAML 1.2.

    Raises:
        ValueError: for a number of more than a hundred digits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if len(text) > _LONGEST_NUMBER:
            raise ValueError
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _SPECIAL.fullmatch(text) else text


def describe(node: Node) -> str:
    """Say what kind of value this is, showing texts of up to 40 characters."""
    if isinstance(node, Items):
        return "a list" if node.items else "an empty list"
    if isinstance(node, Fields):
        return "a mapping" if node.entries else "an empty mapping"
    if node.value is None:
        return "nothing (null)"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    if isinstance(node.value, str):
        return f"the text `{shortened(node.value.rstrip(chr(10)) or node.value)}`" if node.value else "an empty text"
    return f"the number {node.value}"


def shortened(text: str, length: int = 40) -> str:
    """Return the start of a text that is longer than so many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _named(character: str) -> str:
    return f"U+{ord(character):04X}"


class _Reader:
    """One text on its way from events to nodes."""

    def __init__(self, text: str, skipped: int, limits: Limits) -> None:
        self._text = text
        self._skipped = skipped
        self._limits = limits
        self._left = limits.nodes
        self._events = self._parsed()

    def document(self) -> Node:
        next(self._events)
        event = next(self._events)
        if _kind(event) == "StreamEnd":
            return Scalar(len(self._text), len(self._text), None, "")
        self._check_document(event)
        node = self._node(next(self._events), 0)
        next(self._events)
        further = next(self._events)
        if _kind(further) != "StreamEnd":
            self._refuse(further, "a second document begins here, and only one is read")
        return node

    def _parsed(self) -> Iterator[Any]:
        import yaml

        # The parser in C is some thirty times as fast; installations without a compiler lack it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            yield from yaml.parse(self._text[self._skipped :], Loader=loader)
        except yaml.MarkedYAMLError as error:
            raise self._explained(error) from None
        except (yaml.YAMLError, ValueError, UnicodeError):
            raise BadYaml("this is not valid YAML: an escape stands for no character", 0) from None

    def _check_document(self, event: Any) -> None:
        if event.version is not None or event.tags:
            self._refuse(event, "directives (`%YAML`, `%TAG`) are not read")

    def _node(self, event: Any, depth: int) -> Node:
        kind = _kind(event)
        self._left -= 1
        if self._left < 0:
            self._refuse(event, f"there are more than {self._limits.nodes:,} values")
        if kind == "Alias":
            self._refuse(event, "aliases (`*name`) are not read", help=_QUOTE_STAR)
        if event.anchor is not None:
            self._refuse(event, "anchors (`&name`) are not read", help=_QUOTE)
        if event.tag is not None:
            self._refuse(event, "tags (`!name`) are not read", help=_QUOTE)
        if kind == "Scalar":
            return self._scalar(event)
        if depth == _DEPTH:
            self._refuse(event, f"this is nested more than {_DEPTH} deep")
        return self._list(event, depth) if kind == "SequenceStart" else self._mapping(event, depth)

    def _scalar(self, event: Any) -> Scalar:
        start, end = self._place(event)
        style = event.style or ""
        try:
            value = event.value if style else resolve(event.value)
        except ValueError:
            raise BadYaml("this number is too long", start, end, help="quoted, it is a text") from None
        if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise BadYaml("an escape stands for half a character", start, end, help="write the character itself")
        return Scalar(start, end, value, style)

    def _list(self, event: Any, depth: int) -> Items:
        items = []
        while _kind(inner := next(self._events)) != "SequenceEnd":
            items.append(self._node(inner, depth + 1))
        return Items(self._place(event)[0], self._place(inner)[1], tuple(items))

    def _mapping(self, event: Any, depth: int) -> Fields:
        entries: dict[str, MappingEntry] = {}
        while _kind(inner := next(self._events)) != "MappingEnd":
            key = self._key(inner, depth)
            name = str(key.value)
            if name in entries:
                first = entries[name].key
                raise BadYaml(
                    f"the key `{shortened(name, 60)}` is given twice", key.start, key.end,
                    duplicate=(first.start, first.end),
                )  # fmt: skip
            entries[name] = MappingEntry(key, self._node(next(self._events), depth + 1))
        return Fields(self._place(event)[0], self._place(inner)[1], entries)

    def _key(self, event: Any, depth: int) -> Scalar:
        node = self._node(event, depth + 1)
        if isinstance(node, Scalar) and node.end - node.start > _LONGEST_KEY:
            self._refuse(event, f"a key has more than {_LONGEST_KEY} characters")
        if isinstance(node, Scalar) and node.value == "<<" and not node.style:
            self._refuse(event, "merge keys (`<<`) are not read", help="write the keys out")
        if isinstance(node, Scalar) and not isinstance(node.value, str) and node.value is not None:
            if self._limits.written_keys:
                return Scalar(node.start, node.end, event.value, "")
            help = f"in quotes it is a text: `'{event.value}'`"
            self._refuse(event, f"a key must be a text, not {describe(node)}", help=help)
        if not isinstance(node, Scalar) or node.value is None:
            self._refuse(event, f"a key must be a text, not {describe(node)}")
        return node

    def _place(self, event: Any) -> tuple[int, int]:
        return event.start_mark.index + self._skipped, event.end_mark.index + self._skipped

    def _refuse(self, event: Any, what: str, *, help: str = "") -> NoReturn:
        raise BadYaml(what, *self._place(event), help=help)

    def _explained(self, error: Any) -> BadYaml:
        """Return in plain words what the parser did not like."""
        mark = error.problem_mark or error.context_mark
        at = min(mark.index + self._skipped, len(self._text)) if mark is not None else 0
        problem, character = error.problem or "", self._text[at : at + 1]
        if "cannot start any token" in problem and character == "\t":
            return BadYaml("a tab cannot indent", at, help="indent with spaces")
        if "cannot start any token" in problem:
            return BadYaml("a plain text cannot begin with this character", at, help=_QUOTE)
        if "mapping values are not allowed" in problem or "could not find expected ':'" in problem:
            return self._without_key(at, error.context_mark)
        if "scanning an alias" in (error.context or "") or "scanning an anchor" in (error.context or ""):
            start = error.context_mark.index + self._skipped if error.context_mark is not None else at
            help = _QUOTE_STAR if "alias" in error.context else _QUOTE
            return BadYaml("a plain text cannot begin with this character", start, help=help)
        if re.search("parsing a block (mapping|collection)", error.context or ""):
            return self._misplaced(at)
        if "unexpected end of stream" in problem and error.context_mark is not None:
            return BadYaml("this quote is not closed", error.context_mark.index + self._skipped)
        if "unknown escape character" in problem:
            # One parser marks the backslash, the other the character after it.
            start = at - (character != "\\")
            return BadYaml(
                "a backslash begins an escape here, and there is none of this name", start, start + 2,
                help="single quotes take backslashes as they are; in double quotes `\\\\` is one",
            )  # fmt: skip
        context = f" {error.context}" if error.context else ""
        return BadYaml(f"this is not valid YAML: {_without_text(problem)}{context}", at)

    def _misplaced(self, at: int) -> BadYaml:
        """Return what is wrong with what is neither a key nor an item of the block that it stands in."""
        begin = self._text.rfind("\n", 0, at) + 1
        if self._text[begin:at].strip():
            return BadYaml(
                "this is not valid YAML: nothing can follow the value before this", at, help="quote the whole text"
            )
        return BadYaml(
            "this is not valid YAML: the line does not belong to the lines above it", at,
            help="indent all keys of a mapping alike, and all items of a list",
        )  # fmt: skip

    def _without_key(self, at: int, key: Any) -> BadYaml:
        """Return what is wrong with a `:` that follows no key, or with a key that no `:` follows."""
        begin = self._text.rfind("\n", 0, at) + 1 if key is None else key.index + self._skipped
        end = begin + len(self._text[begin:].partition("\n")[0])
        if end - begin > _LONGEST_KEY:
            return BadYaml(f"a key has more than {_LONGEST_KEY} characters", begin)
        if key is not None:
            return BadYaml("a `:` is missing after this key", begin, end)
        if ": " not in self._text[begin:at] and not self._text[begin:at].lstrip().startswith("- "):
            start = begin + len(self._text[begin:at]) - len(self._text[begin:at].lstrip())
            return BadYaml(
                "this line goes on with the text above it, and it cannot contain a `:`", start, end,
                help="indent a key like the keys beside it, or quote the whole text",
            )  # fmt: skip
        return BadYaml("`: ` begins a second mapping in this line", at, help="quote a text that holds `: `")


_QUOTE = "quote a text that begins with this character"
_QUOTE_STAR = "quote a text that begins with `*`, such as a pattern: '*.weight'"


def _without_text(problem: str) -> str:
    """Return what a parser says without what it found, which may be contents of a file."""
    return re.sub(r",? but (?:found|got) .*|found character '.*'", "", problem, flags=re.DOTALL).strip() or "misplaced"


def _kind(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")
