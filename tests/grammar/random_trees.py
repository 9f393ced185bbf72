"""Random trees, made of nodes that stand in no text."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

from statex.core.source import Source
from statex.grammar import factory as make
from statex.grammar import parse_lossless, parse_text, tree
from statex.grammar.factory import NOWHERE
from statex.grammar.formatter import same_tree

words = st.sampled_from(["a", "b1", "_x", "heads", "w", "layers", "set", "part", "where", "first", "in_"])
names = st.builds(make.name, words)
texts = st.text(st.sampled_from("ab.-/'\"\\{}*# \n\t:é$"), max_size=6)
segments = st.text(st.sampled_from("abw01_ü"), min_size=1, max_size=3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(strategy: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[Any]:
    return st.lists(strategy, min_size=1, max_size=most).map(tuple)


# --- patterns ---------------------------------------------------------------------------------------------------

choices = st.lists(
    st.builds(tree.Choice, segments, st.sampled_from(["q", "k.v", "", "w-1"])),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.text,
).map(tuple)
captures = st.one_of(
    st.builds(make.capture, words),
    st.builds(make.capture, words, st.just(tree.CaptureForm.INT)),
    st.builds(lambda name, found: tree.Capture(NOWHERE, name, tree.CaptureForm.CHOICE, found), words, choices),
)
sums = st.builds(make.binary, names, st.sampled_from(["+", "-", "*", "//", "%"]), st.builds(make.number, st.just(3)))
fields = st.one_of(
    st.builds(lambda value: tree.Field(NOWHERE, value), sums),
    st.builds(lambda name, width: tree.Field(NOWHERE, name, width), names, st.sampled_from(["02", "010"])),
    st.builds(lambda n: tree.Field(NOWHERE, make.number(n)), st.integers(0, 20)),
)
pieces = st.one_of(
    segments, st.just(tree.Star(NOWHERE)), captures, fields, st.builds(tree.Splice, st.just(NOWHERE), words)
)
whole = st.just([tree.DoubleStar(NOWHERE)]) | st.builds(lambda n: [make.capture(n, tree.CaptureForm.SEGMENTS)], words)


def _apart(parts: list[Any]) -> list[Any]:
    """Return pieces of a segment, in which stars and texts do not touch their likes."""
    found: list[Any] = []
    for part in parts:
        if found and type(found[-1]) is type(part) and isinstance(part, str | tree.Star):
            continue
        found.append(part)
    return found


def _joined(parts: list[list[Any]]) -> list[Any]:
    """Return the pieces of segments with dots between them, texts that touch as one."""
    found: list[Any] = []
    for number, part in enumerate(parts):
        for piece in [*(["."] if number else []), *part]:
            if isinstance(piece, str) and found and isinstance(found[-1], str):
                found[-1] += piece
            else:
                found.append(piece)
    return found


inputs = maybe(st.sampled_from(["ft", "lora"]))
bare = st.builds(
    lambda parts, input_: make.pattern(_joined(parts), input_),
    st.lists(st.lists(pieces, min_size=1, max_size=3).map(_apart) | whole, min_size=1, max_size=4),
    inputs,
)
quoted = st.builds(
    lambda parts, odd, input_: make.pattern(_joined([*parts, [odd]]), input_),
    st.lists(st.lists(pieces, min_size=1, max_size=3).map(_apart), max_size=2),
    texts.filter(bool),
    inputs,
)
literals = st.builds(lambda text, input_: make.key(text, input_), texts, inputs) | st.builds(make.literal, texts)
regexes = st.builds(
    lambda text, input_: tree.PatternNode(NOWHERE, tree.PatternKind.REGEX, text, (), input_),
    st.sampled_from(["a/b", r"l\.(\d+)", r"\\/x", "'\"#", "a b|c"]),
    inputs,
)
# Deferred, so that hypothesis need not write out what it is made of.
patterns = st.deferred(lambda: st.one_of(bare, bare, bare, quoted, literals, regexes))
literal_texts = st.builds(make.literal, texts)

# --- expressions ------------------------------------------------------------------------------------------------


def _is_key(node: tree.PatternNode) -> bool:
    """Say whether a bare pattern can stand as a tensor without quotes: not with stars, and not as a number."""
    if node.kind is not tree.PatternKind.BARE:
        return True
    if node.input is not None:
        return "*" not in node.text
    return re.fullmatch(r"[A-Za-z_]\w*|(?!\d[\d.]*(e\d+)?\Z)[^*]*[.{][^*]*", node.text) is not None


keys = st.builds(lambda key: tree.KeyRef(NOWHERE, key), st.one_of(bare, bare, quoted, literals).filter(_is_key))
numbers = st.builds(make.number, st.integers(0, 10**20) | st.floats(0, allow_nan=False, allow_infinity=False))
atoms = st.one_of(numbers, names, names, keys, st.builds(make.string, texts))


def _deeper(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arguments = st.builds(tree.Argument, st.just(NOWHERE), maybe(words), inner)
    calls = st.builds(tree.Call, st.just(NOWHERE), words, st.just(NOWHERE), st.lists(arguments, max_size=3).map(tuple))
    queries = st.builds(tree.Query, st.just(NOWHERE), st.sampled_from(["exists", "count"]), patterns)
    slices = st.builds(tree.Slice, st.just(NOWHERE), maybe(inner), maybe(inner), maybe(inner))
    indices = some(
        st.one_of(
            inner.filter(lambda one: not isinstance(one, tree.KeyRef)), slices, slices, st.just(tree.Ellipsis(NOWHERE))
        )
    )
    operators = st.sampled_from(
        ["or", "and", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "+", "-", "*", "/", "//", "%", "@", "**"]
    )
    return st.one_of(
        calls,
        queries,
        st.builds(make.binary, inner, operators, inner),
        st.builds(make.binary, inner, operators, inner),
        st.builds(tree.Unary, st.just(NOWHERE), st.sampled_from(["-", "+", "not"]), inner),
        st.builds(make.pipe, inner, calls | names),
        st.builds(tree.Matches, st.just(NOWHERE), inner, patterns),
        st.builds(tree.Conditional, st.just(NOWHERE), inner, inner, inner),
        st.builds(tree.ListExpr, st.just(NOWHERE), st.lists(inner, max_size=3).map(tuple)),
        st.builds(tree.Subscript, st.just(NOWHERE), inner, indices),
    )


expressions = st.deferred(lambda: st.recursive(atoms, _deeper, max_leaves=8))

# --- statements -------------------------------------------------------------------------------------------------

here = st.just(NOWHERE)
flags = st.booleans()
wheres = maybe(expressions)
paths = st.builds(tree.PathNode, here, texts | st.lists(texts | st.integers(-9, 9), min_size=1, max_size=3).map(tuple))
around = st.builds(tree.ValueOf, here, paths) | st.builds(tree.MetadataOf, here, literal_texts)
name_patterns = st.builds(tree.MetadataOf, here, regexes.filter(lambda one: one.input is None))
rows = st.builds(tree.Row, here, patterns, patterns, flags)
modes = st.sampled_from(tree.RenameMode)
key_mode = st.just(tree.RenameMode.KEY)
single = st.one_of(
    st.builds(tree.Rename, here, modes, st.tuples(rows), where=wheres, optional=flags),
    st.builds(tree.Rename, here, modes, some(rows, 4), st.just(True), optional=flags, where=wheres),
    st.builds(tree.Rename, here, key_mode, some(rows), st.just(True), st.just(True), flags, wheres),
    st.builds(tree.Renumber, here, patterns, flags, wheres),
    st.builds(tree.Set, here, some(patterns), expressions, maybe(patterns), flags, wheres, maybe(names)),
    st.builds(tree.Add, here, patterns, expressions, maybe(patterns), flags, wheres),
    st.builds(tree.Copy, here, patterns, patterns, flags, wheres),
    st.builds(tree.Drop, here, some(patterns), flags, flags, wheres),
    st.builds(tree.DropValue, here, some(around | name_patterns), flags),
    st.builds(tree.SetValue, here, some(around), expressions),
    st.builds(tree.AddValue, here, around, expressions),
    st.builds(tree.Split, here, patterns, maybe(names), some(patterns), expressions, flags, wheres, maybe(names)),
    st.builds(
        tree.Merge,
        here,
        some(st.builds(tree.MergeSource, here, patterns, maybe(names))),
        maybe(names),
        patterns,
        expressions,
        flags,
        wheres,
        maybe(names),
    ),
    st.builds(tree.Param, here, names, maybe(names), maybe(expressions), maybe(st.builds(make.string, texts))),
    st.builds(tree.Let, here, names, expressions),
    st.builds(tree.Input, here, names, flags, maybe(paths)),
    st.builds(
        tree.Include,
        here,
        st.builds(make.string, texts),
        st.lists(st.builds(tree.Binding, here, names, expressions), max_size=3).map(tuple),
    ),
    st.builds(
        tree.Use,
        here,
        names,
        st.lists(st.builds(tree.Argument, here, maybe(words), expressions), max_size=3).map(tuple),
    ),
    st.builds(tree.Root, here, paths, maybe(paths), flags),
    st.builds(tree.Order, here, maybe(names)),
    st.builds(tree.ExpectKeys, here, patterns, flags),
    st.builds(
        tree.ExpectEach,
        here,
        st.sampled_from(["shape", "dtype"]),
        patterns,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        expressions,
    ),
    st.builds(tree.ExpectSame, here, patterns, keys),
    st.builds(tree.Expect, here, expressions),
    st.builds(tree.Allow, here, st.sampled_from(["missing", "unexpected"]), some(patterns)),
)


def _blocks(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    bodies = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(tree.Within, here, patterns, bodies),
        st.builds(tree.Macro, here, names, st.lists(names, max_size=3).map(tuple), bodies),
        st.builds(tree.If, here, expressions, bodies, bodies),
    )


statements = st.deferred(lambda: st.recursive(single, _blocks, max_leaves=4))
programs = st.lists(statements, min_size=1, max_size=4).map(lambda found: make.program(*found))


def typed_in(text: str, place: int, added: str) -> str | None:
    """Return rules with a text before one of their tokens; `None` where they are then no rules, or others."""
    tokens = parse_lossless(Source("<rules>", text)).tokens
    start = tokens[place % len(tokens)].span.start
    changed = text[:start] + added + text[start:]
    if parse_lossless(Source("<rules>", changed)).diagnostics:
        return None
    return changed if same_tree(parse_text(changed), parse_text(text)) else None
