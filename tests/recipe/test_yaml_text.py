"""YAML as it is read: values of the core schema, their places, and what is refused; by both parsers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from statex.core.yaml_places import places
from statex.core.yaml_text import BadYaml, Fields, Items, Limits, MappingEntry, Node, Scalar, parse_yaml, plain, resolve

LIMITS = Limits(1 << 20, 20_000)


@pytest.fixture(autouse=True, params=["c", "python"], scope="module")
def parser(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read with the parser in C, and with the one that is there where no compiler was."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            patch.delattr(yaml, "CSafeLoader")
        yield


def read(text: str) -> object:
    return plain(parse_yaml(text, LIMITS))


def refused(text: str, limits: Limits = LIMITS) -> BadYaml:
    with pytest.raises(BadYaml) as caught:
        parse_yaml(text, limits)
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, None) for text in ("", "~", "null", "Null", "NULL")),
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, int(text)) for text in ("0", "-0", "+12", "-7", "123456789012345678901234567890")),
        ("0o17", 15),
        ("0x1F", 31),
        *((text, float(text)) for text in ("1.5", "-.5", "1.", "1e3", "1E-3", "+1.5e+3", "007.5")),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        *(
            (text, text)
            for text in ("yes", "on", "no", "off", "y", "0777", "-012", "1_000", "12:30:00", "2026-01-01", "tRue",
                         "0b1", "0o8", "0x", "1e", ".", "-", "+", "e3", "inf", "nan", ".iNf", "1.2.3", "- 1", "nUll")
        ),
    ],
)  # fmt: skip
def test_plain_scalars(text: str, value: object) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    assert all(math.isnan(float(str(resolve(text)))) for text in (".nan", ".NaN", ".NAN"))


@given(st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False)))
def test_numbers_that_python_writes(number: float) -> None:
    written = repr(number).replace("inf", ".inf")
    assert resolve(written) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("---\n", None),
        ("a: 1\nb: [x, '1', \"2\", null]\nc: {d: text}", {"a": 1, "b": ["x", "1", "2", None], "c": {"d": "text"}}),
        ("\ufeffa: 1", {"a": 1}),
        ("--- {a: yes}\n...\n", {"a": "yes"}),
        ("a: |\n  x\n  y\nb: >-\n  x\n  y\r\n", {"a": "x\ny\n", "b": "x y"}),
        ("'1': a\n\"<<\": b\n", {"1": "a", "<<": "b"}),
        ("a: '*x'\nb: \"!y\"\n", {"a": "*x", "b": "!y"}),
    ],
)
def test_values(text: str, value: object) -> None:
    assert read(text) == value


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=50), inner),
    max_leaves=20,
)


@given(PLAIN, st.booleans(), st.sampled_from([None, "'", '"']))
def test_what_is_written_is_read(value: object, flow: bool, style: str | None) -> None:
    quoted = yaml.representer.SafeRepresenter.represent_str

    class Dumper(yaml.SafeDumper):
        """Writes every text in quotes, so that its kind does not depend on the schema."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Dumper, data: str) -> yaml.Node:
        node = quoted(dumper, data)
        node.style = style or '"'
        return node

    Dumper.add_representer(str, text)
    assert read(yaml.dump(value, Dumper=Dumper, default_flow_style=flow, allow_unicode=False)) == value


def scalars(node: Node) -> Iterator[Scalar]:
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Items):
        for item in node.items:
            yield from scalars(item)
    else:
        for entry in node.entries.values():
            yield entry.key
            yield from scalars(entry.value)


TEXTS = st.text(st.sampled_from("ab {}*:#'\"\\|->é🙂\n\t"), max_size=60)


@given(TEXTS, st.sampled_from([None, "'", '"', "|", ">"]), st.sampled_from([20, 80]), st.integers(2, 6))
def test_places_of_what_is_dumped(value: str, style: str | None, width: int, indent: int) -> None:
    text = yaml.dump({"rules": [value]}, default_style=style, width=width, indent=indent, allow_unicode=True)
    (scalar,) = [s for s in scalars(parse_yaml(text, LIMITS)) if s.value == value and s.start > text.index("rules") + 6]
    check_places(text, scalar)


PARTS = st.lists(
    st.sampled_from(["a", "b:", " ", "  ", "\n", "\n  ", "\n    ", "\r\n   ", "\t", "''", "\\n", "\\x41", "\\\n", "\\ ",
                     "é", "🙂", "\\u00e9", "#", '\\"', "'", "\\U0001f642", "\\\t", "\\\\"]),
    max_size=12,
).map("".join)  # fmt: skip
HEADS = st.sampled_from(["|\n  ", "|-\n ", "|+\n  ", "|2\n    ", ">\n  ", ">-\n   ", ">+\r\n  ", ">1-\n  ", "| # c\n  ",
                         "'", '"', "x"])  # fmt: skip


@given(st.sampled_from(["k: ", "- ", "- - ", "k:\n  j: ", "é🙂: ", "", "\ufeff"]), HEADS, PARTS,
       st.sampled_from(["", "\n", "\nz: 1\n", "\n- z"]))  # fmt: skip
def test_places_of_what_may_stand_in_a_file(before: str, head: str, inner: str, after: str) -> None:
    text = before + head + inner + (head if head in ("'", '"') else "") + after
    for scalar in scalars(read_or_refused(text)):
        if isinstance(scalar.value, str):
            check_places(text, scalar)


def read_or_refused(text: str) -> Node:
    """Return what a text is, or the scalar that has the place of what is wrong with it."""
    try:
        return parse_yaml(text, LIMITS)
    except BadYaml as error:
        refused = Scalar(error.start, error.end, None, "")
    assert 0 <= refused.start <= len(text)
    return refused


def check_places(text: str, scalar: Scalar) -> None:
    """Every character is where its place says, written as itself or as an escape that begins there."""
    assert isinstance(scalar.value, str)
    found = places(text, scalar)
    assert len(found) == len(scalar.value) + 1
    assert list(found[:-1]) == sorted(found[:-1])
    assert scalar.start <= found[-1] <= scalar.end
    for character, at in zip(scalar.value, found, strict=False):
        if scalar.style == '"' and text[at] == "\\":
            escaped = text[at : at + {"x": 4, "u": 6, "U": 10}.get(text[at + 1], 2)]
            assert yaml.safe_load(f'"{escaped}"') == character
        elif character in " \n":
            assert text[at] in " \t\r\n"
        else:
            assert text[at] == character


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("- drop a", "drop a", [2, 3, 4, 5, 6, 7, 8]),
        ("- 'it''s'", "it's", [3, 4, 5, 7, 8]),
        ('- "\\x41b\\n"', "Ab\n", [3, 7, 8, 10]),
        ("- |\n  ab\n   c\n\n- x", "ab\n c\n", [6, 7, 8, 11, 12, 13, 13]),
        ("- |1-\n  a\n", " a", [7, 8, 9]),
        ("- >\n a\n b\n\n c\n", "a b\nc\n", [5, 6, 8, 10, 12, 13, 13]),
        ("- a\n  b", "a b", [2, 3, 6, 7]),
        ("- 'a  \n\n  b'", "a\nb", [3, 7, 10, 11]),
        ('- "a\\\n   b"', "ab", [3, 9, 10]),
        ("- |\r\n  a\r\n  b\r\n", "a\nb\n", [7, 8, 12, 13, 13]),
        ("- |\n", "", [4]),
    ],
)
def test_places(text: str, value: str, expected: list[int]) -> None:
    node = parse_yaml(text, LIMITS)
    assert isinstance(node, Items)
    scalar = node.items[0]
    assert isinstance(scalar, Scalar)
    assert scalar.value == value
    assert list(places(text, scalar)) == expected


def test_places_of_nodes() -> None:
    text = "a: 1\nb:\n  - {c: 'x'}\n"
    node = parse_yaml(text, LIMITS)
    assert isinstance(node, Fields)
    entry = node.entries["b"]
    assert isinstance(entry, MappingEntry)
    assert isinstance(entry.value, Items)
    assert text[entry.key.start : entry.key.end] == "b"
    (inner,) = entry.value.items
    assert text[inner.start : inner.end] == "{c: 'x'}"


@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("a: &x 1\nb: *x", "anchors (`&name`) are not read", 3),
        ("a: 1\nb: *x", "aliases (`*name`) are not read", 8),
        ("a: *.weight", "a plain text cannot begin with this character", 3),
        ("a: [**]", "a plain text cannot begin with this character", 4),
        ("a: & b", "a plain text cannot begin with this character", 3),
        ("a:\n  b: 1\n   c: 2", "this line goes on with the text above it, and it cannot contain a `:`", 13),
        ("a:\n  b: []\n   c: 2", "this is not valid YAML: the line does not belong to the lines above it", 14),
        ("a:\n  b: 1\n c: 2", "this is not valid YAML: the line does not belong to the lines above it", 11),
        ("- a\nb: 1", "this is not valid YAML: the line does not belong to the lines above it", 4),
        ("- 'a' b\n", "this is not valid YAML: nothing can follow the value before this", 6),
        ("*x : 1", "aliases (`*name`) are not read", 0),
        ("a: !!python/object/apply:os.system [x]", "tags (`!name`) are not read", 3),
        ("a: !x 1", "tags (`!name`) are not read", 3),
        ("a: !!str 1", "tags (`!name`) are not read", 3),
        ("a: ! 1", "tags (`!name`) are not read", 3),
        ("!!map {a: 1}", "tags (`!name`) are not read", 0),
        ("a: {<<: {b: 1}}", "merge keys (`<<`) are not read", 4),
        ("a: 1\n---\nb: 1", "a second document begins here, and only one is read", 5),
        ("%YAML 1.1\n---\na: 1", "directives (`%YAML`, `%TAG`) are not read", 0),
        ("%TAG ! tag:x,2000:\n---\na: 1", "directives (`%YAML`, `%TAG`) are not read", 0),
        ("[" * 60, "this is nested more than 50 deep", 50),
        ("a: " + "{a: " * 60, "this is nested more than 50 deep", 199),
        ("a: 1\nb: 2\na: 3", "the key `a` is given twice", 10),
        ("{'a': 1, \"a\": 2}", "the key `a` is given twice", 9),
        ("1: a", "a key must be a text, not the number 1", 0),
        ("true: a", "a key must be a text, not true", 0),
        ("~: a", "a key must be a text, not nothing (null)", 0),
        ("[a]: b", "a key must be a text, not a list", 0),
        ("{a: b}: c", "a key must be a text, not a mapping", 0),
        ("? " + "k" * 2000 + "\n: 1", "a key has more than 1024 characters", 2),
        ("b: 1\n" + "k" * 2000 + ": 1", "a key has more than 1024 characters", 5),
        ("a: \x00", "a control character, U+0000, cannot be read", 3),
        ("a: \x1b[31m", "a control character, U+001B, cannot be read", 3),
        ("a: x\u2028y", "a control character, U+2028, cannot be read", 4),
        ("a: x\ry", "a control character, U+000D, cannot be read", 4),
        ("a: \ud800", "a control character, U+D800, cannot be read", 3),
        ("a: \ufeff", "a control character, U+FEFF, cannot be read", 3),
        ("\ta: 1", "a tab cannot indent", 0),
        ("a: @x", "a plain text cannot begin with this character", 3),
        ("a: %x", "a plain text cannot begin with this character", 3),
        ("a: `x", "a plain text cannot begin with this character", 3),
        ("a: b: c", "`: ` begins a second mapping in this line", 4),
        ("a: 1\nb\nc: 2", "a `:` is missing after this key", 5),
        ("a: 'x", "this quote is not closed", 3),
        ('a: "x', "this quote is not closed", 3),
        ('a: "x\\q"', "a backslash begins an escape here, and there is none of this name", 5),
        ("a: " + "9" * 200, "this number is too long", 3),
    ],
)
def test_what_is_refused(text: str, what: str, at: int) -> None:
    found = refused(text)
    assert (found.what, found.start) == (what, at)
    assert found.end > found.start


@pytest.mark.parametrize(
    "text", ["a: [", "a: {x", "a: |3x\n", "- a\nb: 1", "}", "a: 'x'y", 'a: "\\U00110000"', "? a\n: b\n  : c"]
)
def test_what_is_not_yaml(text: str) -> None:
    found = refused(text)
    assert found.what.startswith("this is not valid YAML: ")
    assert 0 <= found.start <= len(text)


def test_half_a_character_as_an_escape_is_refused() -> None:
    # The parser in C refuses it itself.
    assert refused('a: "\\ud83d\\ude42"').start in (3, 6)


def test_too_much() -> None:
    assert refused("x" * 11, Limits(10, 100)).what == "this is too large: more than 10 characters"
    assert refused("[a, b, c]", Limits(100, 3)).what == "there are more than 3 values"
    assert parse_yaml("[a, b, c]", Limits(100, 4))


def test_keys_as_written() -> None:
    node = parse_yaml("{1: a, 0x10: b, true: c}", Limits(100, 100, written_keys=True))
    assert plain(node) == {"1": "a", "0x10": "b", "true": "c"}
    assert refused("{~: a}", Limits(100, 100, written_keys=True)).what == "a key must be a text, not nothing (null)"


@given(st.text(st.sampled_from("ab:-[]{},'\"|>\\ \n\t#*&!%@?1")))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    read_or_refused(text)
