"""Tables of renames are simultaneous: against plain code over dicts, there and back again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import statex
from statex import StatexError
from tests.dsl.keys.reference import Segments, Token, reference, written
from tests.effort import examples

State = dict[str, torch.Tensor]


def state_of(keys: Sequence[str]) -> State:
    return {key: torch.full((1,), float(number)) for number, key in enumerate(keys)}


def apply(program: str, state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(statex.compile(program).apply(state).items())


def same(found: Sequence[tuple[str, Any]], wanted: Sequence[tuple[str, Any]]) -> bool:
    """Say whether two states have the same keys in the same order, and the very same tensors."""
    return [key for key, _ in found] == [key for key, _ in wanted] and all(
        one is other for (_, one), (_, other) in zip(found, wanted, strict=True)
    )


def codes_of(program: str, state: Mapping[str, Any]) -> set[str]:
    """Return the codes a program fails with, after checking that it left the state alone."""
    before = list(state.items())
    with pytest.raises(StatexError) as caught:
        statex.compile(program).apply(state)
    assert same(list(state.items()), before)
    return {d.code.id for d in caught.value.diagnostics}


def table(mode: str, rows: Sequence[tuple[str, str]], arrow: str = "->") -> str:
    return f"rename {mode} {{\n" + "\n".join(f"  {old} {arrow} {new}" for old, new in rows) + "\n}"


# --- by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "before", "after"),
    [
        ("rename { a -> b\n b -> a }", "a b", "b a"),
        ("rename { a -> b; b -> c; c -> a }", "a b c", "b c a"),
        ("rename { a -> b; b -> c }", "a b", "b c"),
        ("rename { b -> c; a -> b }", "a b", "b c"),
        ("rename { a.{m:**} -> b.{m}; b.{m:**} -> a.{m} }", "a.x b.x a.y.z", "b.x a.x b.y.z"),
        ("rename { l.{i:int}.** -> l.{i + 1}.** }", "l.0.w l.1.w l.2.w", "l.1.w l.2.w l.3.w"),
        ("rename l.{i:int} -> l.{2 - i}", "l.0 l.1 l.2", "l.2 l.1 l.0"),
        ("rename first { a.w -> x\n a.{n} -> b.{n} }", "a.w a.v", "x b.v"),
        ("rename first { a.{n} -> b.{n}\n ** -> c.** }", "a.w d a.v e.f", "b.w c.d b.v c.e.f"),
        ("rename { a -> b; zz ->? y }", "a c", "b c"),
        ("rename? { a -> b; zz -> y }", "a c", "b c"),
        ("rename a.{x}.{y} -> a.{y}.{x}", "a.p.q a.q.p", "a.q.p a.p.q"),
        ("rename part { a -> b; b -> a }", "a.b.a b.b x.ab", "b.a.b a.a x.ab"),
        ("rename part { a.b -> c; b.a -> d }", "a.b.a b.a.b", "c.a d.b"),
        ("rename part a.a -> a", "a.a.a.a b.a.a.a", "a.a b.a.a"),
        ("rename part drop -> ''", "drop.a b.drop.c d", "a b.c d"),
        ("rename part {x:a|a.b} -> z", "a.b.c a.d c.a.b b.a", "z.c z.d c.z b.z"),
        ("rename part {x:a.b|a} -> z", "a.b.c a.d c.a.b b.a", "z.c z.d c.z b.z"),
        ("rename part {x:b|a.b.b|a.b}.{y:b|c} -> {x}_{y}", "a.b.b.c a.b.b b.b", "a.b.b_c a.b_b b_b"),
        ("rename part l{i:int} -> l.{i}", "x.l10.w l2.l3", "x.l.10.w l.2.l.3"),
        ("rename part { a -> b; {x}1 -> {x} }", "a.c1 a1.a", "b.c a.b"),
        ("rename part self.{p:q=query|k=key} -> at.{p}", "x.self.q x.self.k.w self.v", "x.at.query x.at.key.w self.v"),
        ("rename prefix { 'a.' -> 'b.'; 'b.' -> 'a.' }", "a.x b.x a.a.y", "b.x a.x b.a.y"),
        ("rename prefix { 'a.b.' -> 'x.'; 'a.' -> 'y.' }", "a.b.c a.c a.bc", "x.c y.c y.bc"),
        ("rename prefix '' -> 'ds'", "linear.weight b", "dslinear.weight dsb"),
        ("rename prefix 'module.' -> ''", "module.a module.module.b c", "a module.b c"),
        ("rename suffix { '.gamma' -> '.weight'; '.beta' -> '.bias' }", "a.gamma a.beta b", "a.weight a.bias b"),
        ("rename text { 'a' -> 'b'; 'b' -> 'a' }", "a.bab b.aba", "b.aba a.bab"),
        ("rename text 'aa' -> 'a'", "aaaaa b", "aaa b"),
        ("rename text { /l(\\d+)/ -> \"layer.{1}\"; '_' -> '.' }", "l10_w x_l2", "layer.10.w x.layer.2"),
        ("rename text /x*/ -> 'y'", "axxb b", "ayb b"),
        (r"rename text /a\Kb/ -> 'x'", "ab aab b cb", "ax aax b cb"),
        (r"rename text { /a\Kb/ -> 'x'; 'a' -> 'y' }", "ab aa cb", "yx yy cb"),
        (r"rename text { /a\Kb/ -> 'x'; 'b' ->? 'y' }", "ab b", "ax y"),
        (r"rename text { /a\Kbc/ -> 'x'; 'c' -> 'z' }", "abcc acb", "axz azb"),
        (r"rename text { 'd' -> 'a'; /d\Kb/ -> 'x'; /(?<=d)b/ ->? 'y' }", "db", "ax"),
        (r"rename text { 'ab' -> 'd'; /a\Kbb/ ->? 'x'; /b\Kc/ -> 'y' }", "abbbc", "dbby"),
    ],
)  # fmt: skip
def test_renames_are_simultaneous(program: str, before: str, after: str) -> None:
    state = state_of(before.split())
    assert same(apply(program, state), list(zip(after.split(), state.values(), strict=True)))


@pytest.mark.parametrize(
    ("program", "before", "after"),
    [
        ("rename{} first {{ ** -> x.**; a -{} b }}", "a", "x.a"),
        ("rename{} part {{ {{x}} -> x{{x}}; a -{} b }}", "a.c", "xa.xc"),
        ("rename{} prefix {{ 'a' -> 'b'; 'a.' -{} 'c.' }}", "a.b", "b.b"),
        ("rename{} suffix {{ 'b' -> 'c'; '.b' -{} '.d' }}", "a.b", "a.c"),
        ("rename{} text {{ 'a' -> 'b'; 'ab' -{} 'c' }}", "ab", "bb"),
    ],
)
def test_a_row_that_comes_too_late_is_an_error_unless_it_may_match_nothing(
    program: str, before: str, after: str
) -> None:
    assert codes_of(program.format("", ">"), state_of([before])) == {"SX306"}
    for optional in (program.format("", ">?"), program.format("?", ">")):
        assert [key for key, _ in apply(optional, state_of([before]))] == [after]


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("rename {}a*_*b -> x", "x"),
        ("rename {}a*_{{_}}b -> x", "x"),
        ("rename {}a*_*b -> *", None),
        ("rename {}a*_*b -> *.*", None),
        ("rename {}a{{x}}_*b -> x", None),
    ],
)
@pytest.mark.parametrize("mode", ["", "part "])
def test_stars_that_nothing_stands_for_may_be_read_in_two_ways(program: str, wanted: str | None, mode: str) -> None:
    filled, state = program.format(mode), state_of(["a1_2_3b"])
    if wanted is None:
        assert codes_of(filled, state) == {"SX307"}
    else:
        assert [key for key, _ in apply(filled, state)] == [wanted]


@pytest.mark.parametrize("group", ["(x?)", "(?P<g>x?)", "(x)?"])
@pytest.mark.parametrize(
    ("program", "key", "wanted"),
    [
        ('rename /a{}\\.(?P<r>.*)/ -> "m{}.{{r}}"', "a.w", "m.w"),
        ('rename /a{}\\.(?P<r>.*)/ -> "m{}.{{r}}"', "ax.w", "mx.w"),
        ('rename text /a{}\\./ -> "{}."', "ba.w", "b.w"),
        ('rename /a{}\\.(?P<r>.*)/ -> "m.{}.{{r}}"', "ax.w", "m.x.w"),
        ('rename /a{}\\.(?P<r>.*)/ -> "m.{}.{{r}}"', "a.w", None),
        ('rename /a{}\\.(?P<r>.*)/ -> "{}.{{r}}"', "a.w", None),
        ('rename text /a{}\\./ -> ".{}."', "ba.w", None),
    ],
)
def test_an_empty_group_leaves_the_dots_beside_it(group: str, program: str, key: str, wanted: str | None) -> None:
    filled = program.format(group, "{g}" if "<g>" in group else "{1}")
    if wanted is None:
        assert codes_of(filled, state_of([key])) == {"SX316"}
    else:
        assert [new for new, _ in apply(filled, state_of([key]))] == [wanted]


_EXPRESSIONS = [
    r"a\Kb", r"a+\K(b)", r"\Ka", r"(a)\K(b)\K", r"a\Kb|b\Ka", r"(?<=a)b", r"a(?=b)", r"^a", r"b$", r"a.", r"(b)|a",
    r"_\K.", r"a\Ka", r"a\K.\K.", r"(?:ab)+", r"\bb",
]  # fmt: skip


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(_EXPRESSIONS), st.text("ab_.", min_size=1, max_size=8))
def test_text_is_replaced_as_by_the_library_of_regular_expressions(expression: str, key: str) -> None:
    key = f"{key}~"
    if any(not found.group() for found in regex.finditer(expression, key)) or not all(key.split(".")):
        return
    wanted = regex.sub(expression, lambda found: f"<{found[1] or ''}>" if found.re.groups else "<>", key)
    new = '"<{1}>"' if "(b)" in expression or "(a)" in expression else "'<>'"
    assert apply(f"rename? text /{expression}/ -> {new}", state_of([key])) == [(wanted, torch.zeros(1))]


@pytest.mark.parametrize(
    ("program", "keys", "code"),
    [
        ("rename { a -> x; b -> x }", "a b", "SX302"),
        ("rename a -> b", "a b", "SX302"),
        ("rename { a -> b; b -> c }", "a b c", "SX302"),
        ("rename {x}.{y} -> {x}", "a.b a.c", "SX302"),
        ("rename part b -> ''", "a.b.c a.c", "SX302"),
        ("rename prefix 'a' -> ''", "ab b", "SX302"),
        ("rename text 'b' -> 'a'", "ab aa", "SX302"),
        ("rename { a.{x} -> b.{x}; {x}.w -> {x}.v }", "a.w", "SX305"),
        ("rename first { ** -> x.**; a -> b }", "a", "SX306"),
        ("rename part { {x} -> x{x}; a -> b }", "a b", "SX306"),
        ("rename prefix { 'a' -> 'b'; 'a.' -> 'c.' }", "a.b", "SX306"),
        ("rename text { 'a' -> 'b'; 'ab' -> 'c' }", "ab", "SX306"),
        ("rename part { {x} -> y{x}; {x}_{y} -> {x}.{y} }", "a_b_c", "SX306"),
        ("rename { a -> b; c -> d }", "a", "SX301"),
        ("rename part { a -> b; c -> d }", "a", "SX301"),
        ("rename prefix { 'a' -> 'b'; 'c' -> 'd' }", "a.c", "SX301"),
        ("rename text 'x' -> 'y'", "a", "SX301"),
        ("rename {x}_{y} -> {x}", "a_b_c", "SX307"),
        ("rename part {x}_{y} -> {x}.{y}", "w.a_b_c", "SX307"),
        ("rename a -> 'b..c'", "a", "SX316"),
        ("rename part a -> ''", "a a.b", "SX316"),
        ("rename suffix 'b' -> ''", "a.b", "SX316"),
        ("rename a.{i:int} -> a.{i - 1}", "a.0", "SX158"),
    ],
)
def test_mistakes_change_nothing(program: str, keys: str, code: str) -> None:
    assert codes_of(program, state_of(keys.split())) == {code}


def test_a_collision_names_both_keys() -> None:
    with pytest.raises(StatexError) as caught:
        apply("rename {x}.{y} -> {x}", state_of(["a.b", "a.c"]))
    assert "a.b" in str(caught.value)
    assert "a.c" in str(caught.value)


def test_every_collision_is_told() -> None:
    state = state_of([f"{m}.{i}" for m in "abc" for i in range(2)])
    with pytest.raises(StatexError) as caught:
        apply("rename {x}.{y} -> {x}", state)
    assert {case for d in caught.value.diagnostics for case in d.cases} == {"a.1", "b.1", "c.1"}


# --- tables of whole keys against the reference -----------------------------------------------------------------

_KEYS = st.lists(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(".".join), min_size=1, max_size=8, unique=True
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Segments, tuple[str, ...]]:
    """Draw a row: a pattern with captures, and what its template is made of (names of captures and texts)."""
    segments: list[tuple[Token, ...]] = []
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["text", "text", "plain", "segments"]))
        text = draw(st.sampled_from("abc")) if kind == "text" else f"x{number}"
        segments.append((Token(kind, text),))
    names = [s[0].text for s in segments if s[0].kind != "text"]
    target = draw(st.lists(st.sampled_from([*names * 2, "a", "b", "c", "d"]), min_size=1, max_size=3))
    return tuple(segments), tuple(target)


def moves_of(
    table: Sequence[tuple[Segments, tuple[str, ...]]], keys: Sequence[str], first: bool
) -> tuple[dict[str, str], set[str]]:
    """Return where keys go, and the codes of what is wrong."""
    wrong: set[str] = set()
    moves: dict[str, str] = {}
    for segments, target in table:
        names = {s[0].text for s in segments if s[0].kind != "text"}
        readings = {key: reference(segments, key) for key in keys}
        matched = {key: found for key, found in readings.items() if found}
        won = False
        if not matched:
            wrong.add("SX301")
        for key, found in matched.items():
            if len(found) > 1:
                wrong.add("SX307")
            elif key in moves:
                wrong |= set() if first else {"SX305"}
            else:
                won = True
                parts = [found[0][part] if part in names else part for part in target]
                moves[key] = ".".join(part for part in parts if part)
        if first and not won and any(len(found) == 1 for found in matched.values()):
            wrong.add("SX306")
    after = [moves.get(key, key) for key in keys]
    if len(set(after)) < len(after):
        wrong.add("SX302")
    if "" in after:
        wrong.add("SX316")
    return moves, wrong


@settings(max_examples=examples(300), deadline=None)
@given(_KEYS, st.lists(rows(), min_size=1, max_size=4), st.booleans())
def test_a_table_of_patterns_is_that_of_the_reference(
    keys: list[str], table_rows: list[tuple[Segments, tuple[str, ...]]], first: bool
) -> None:
    moves, wrong = moves_of(table_rows, keys, first)
    lines = []
    for segments, target in table_rows:
        names = {s[0].text for s in segments if s[0].kind != "text"}
        lines.append((written(segments), ".".join(f"{{{part}}}" if part in names else part for part in target)))
    program = table("first" if first else "", lines)
    state = state_of(keys)
    if wrong:
        found = codes_of(program, state)
        # Where keys go is not known after other mistakes.
        unsure = {"SX302", "SX316"}
        assert found <= wrong, program
        assert found | unsure == wrong | unsure, program
    else:
        assert same(apply(program, state), [(moves.get(key, key), state[key]) for key in keys]), program


# --- parts, prefixes, suffixes and text against the reference ---------------------------------------------------

Rows = list[tuple[str, str]]


def pass_over(old: list[str], rows: Sequence[tuple[list[str], list[str]]]) -> list[str]:
    """Replace from left to right; at each place the first row that fits wins."""
    result: list[str] = []
    place = 0
    while place < len(old):
        for source, target in rows:
            if old[place : place + len(source)] == source:
                result += target
                place += len(source)
                break
        else:
            result.append(old[place])
            place += 1
    return result


def parts(key: str, rows: Rows) -> str:
    segments = [(old.split("."), new.split(".") if new else []) for old, new in rows]
    return ".".join(pass_over(key.split("."), segments))


def text(key: str, rows: Rows) -> str:
    return "".join(pass_over(list(key), [(list(old), list(new)) for old, new in rows]))


def prefix(key: str, rows: Rows) -> str:
    return next((new + key[len(old) :] for old, new in rows if key.startswith(old)), key)


def suffix(key: str, rows: Rows) -> str:
    return next((key[: len(key) - len(old)] + new for old, new in rows if key.endswith(old)), key)


_DOTTED = st.lists(st.sampled_from("abc"), min_size=1, max_size=2).map(".".join)
_PLAIN = st.text("ab.", min_size=1, max_size=3)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from([parts, prefix, suffix, text]), _KEYS, st.data())
def test_a_table_inside_keys_is_that_of_the_reference(
    mode: Callable[[str, Rows], str], keys: list[str], data: st.DataObject
) -> None:
    old = _DOTTED if mode is parts else _PLAIN
    new = st.one_of(st.just(""), old)
    drawn = data.draw(st.lists(st.tuples(old, new), min_size=1, max_size=3, unique_by=lambda row: row[0]))
    name = "part" if mode is parts else mode.__name__
    program = table(name, [(f"'{one}'", f"'{other}'") for one, other in drawn], "->?")
    state = state_of(keys)
    after = [mode(key, drawn) for key in keys]
    moved = [key for one, key in zip(keys, after, strict=True) if one != key]
    if len(set(after)) < len(after) or any("" in key.split(".") for key in moved):
        assert codes_of(program, state) <= {"SX302", "SX316"}
    else:
        assert same(apply(program, state), list(zip(after, state.values(), strict=True))), program


# --- there and back again ---------------------------------------------------------------------------------------


def quoted(rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(f"'{old}'", f"'{new}'") for old, new in rows]


@st.composite
def bijections(draw: st.DrawFn, keys: Sequence[str]) -> tuple[str, str]:
    """Draw a rename that loses nothing, whatever the state, and the one that undoes it."""
    kind = draw(st.sampled_from(["keys", "part", "text", "prefix", "suffix", "segments", "fresh", "number"]))
    letters = list("abc")
    if kind == "part" or kind == "text":
        pairs = quoted(list(zip(letters, draw(st.permutations(letters)), strict=True)))
        return table(kind, pairs, "->?"), table(kind, [(new, old) for old, new in pairs], "->?")
    if kind in ("prefix", "suffix"):
        added = draw(st.sampled_from(["a.", "a", "b.c."])) if kind == "prefix" else draw(st.sampled_from([".a", "a"]))
        return f"rename {kind} '' -> '{added}'", f"rename {kind} '{added}' -> ''"
    if kind == "segments":
        others = draw(st.permutations(letters))
        pairs = [(f"{old}.{{m:**}}", f"{new}.{{m}}") for old, new in zip(letters, others, strict=True)]
        back = [(f"{new}.{{m:**}}", f"{old}.{{m}}") for old, new in zip(letters, others, strict=True)]
        return table("", pairs, "->?"), table("", back, "->?")
    if kind == "number":
        return "rename? {m:**}.{i:int} -> {m}.{i + 7}", "rename? {m:**}.{i:int} -> {m}.{i - 7}"
    if kind == "fresh":
        return "rename {m:**} -> z.{m}.z", "rename z.{m:**}.z -> {m}"
    return "", ""


@settings(max_examples=examples(150), deadline=None)
@given(_KEYS, st.data())
def test_bijections_and_their_reverse_give_the_state_back(keys: list[str], data: st.DataObject) -> None:
    state = state_of(keys)
    there: list[str] = []
    back: list[str] = []
    current: list[tuple[str, Any]] = list(state.items())
    for _ in range(data.draw(st.integers(1, 4))):
        forward, backward = data.draw(bijections(keys))
        if not forward:
            now = [key for key, _ in current]
            pairs = quoted(list(zip(now, data.draw(st.permutations(now)), strict=True)))
            forward, backward = table("", pairs), table("", [(new, old) for old, new in pairs])
        there.append(forward)
        back.insert(0, backward)
        current = apply("\n".join(there), state)
        assert all(one is other for (_, one), other in zip(current, state.values(), strict=True))
    assert same(apply("\n".join([*there, *back]), state), list(state.items()))
    assert same(apply("\n".join(back), dict(current)), list(state.items()))


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("rename part {i:int} -> x{i} where i > 0", ["0.b", "x1.a", "x1.0.x3"]),
        ("rename part { {i:int} -> x{i}; b -> c } where key matches *.b", ["x0.c", "1.a", "1.0.3"]),
        ('rename part a -> "{key}"', ["0.b", "1.1.a", "1.0.3"]),
    ],
)
def test_a_condition_and_a_template_of_parts_know_captures_and_key(program: str, wanted: list[str]) -> None:
    state = {key: torch.zeros(1) for key in ("0.b", "1.a", "1.0.3")}
    assert list(statex.compile(program).apply(state)) == wanted
