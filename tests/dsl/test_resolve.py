"""What names of a program mean, and which of them nothing uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex.core.source import Source
from statex.dsl.expressions.parameters import Given
from statex.dsl.parts import Outside, ProgramPart, stem_of
from statex.dsl.resolve import NameKind, Resolved, resolve
from statex.grammar import parse

STATE = {"a.w": torch.ones(2, 2), "a.0.q": torch.ones(2), "a.1.q": torch.ones(2)}


class Files:
    """Rule files by name; `read` are the names that were asked for."""

    def __init__(self, **files: str) -> None:
        self.files = files
        self.read: list[str] = []

    def __call__(self, folder: str, path: str) -> Source:
        self.read.append(path)
        return Source(path, self.files[path.removesuffix(".sx")])


def resolved(text: str, outside: Outside | None = None, /, **files: str) -> Resolved:
    found = resolve([ProgramPart(parse(Source("r.sx", text)))], Files(**files), outside or Outside())
    assert found.diagnostics == ()
    return found


def unused(text: str, /, **files: str) -> list[str]:
    """Return what is reported as unused: the marked text of each warning."""
    found = resolved(text, **files).warnings
    assert {one.code.id for one in found} <= {"SX925", "SX926"}
    return [one.span.text for one in found if one.span is not None]


# --- what names mean ------------------------------------------------------------------------------------------------


def meanings(found: Resolved) -> list[tuple[str, NameKind, int, int]]:
    """Return each use: its text, the kind of its definition, the lines of both."""
    return [
        (span.text, one.kind, span.line, one.span.line if one.span is not None else 0)
        for span, one in sorted(found.uses.items(), key=lambda pair: pair[0].start)
    ]


def test_every_use_leads_to_its_definition() -> None:
    program = """param scale = 2
let twice = scale * 2
input ft
macro double(p, by) {
  set {$p}.w = it * by
}
use double('a', twice)
set a.{i}.{p}.w = it * ft::{key} where i != p and exists(a.{i}.b)
rename a.{i}.{p:q|k} -> b.{i}.{p}.{i}
merge a.{e:int}.q as x, a.{e}.k as y over e -> a.qk = cat(stack(x), stack(y)) * scale
split a.qkv over n -> a.{n}.w = unstack(dim=0)
within blocks.{b} {
  rename x -> "y.{b}"
}
order like ft
"""
    assert meanings(resolved(program)) == [
        ("scale", NameKind.PARAM, 2, 1),
        ("{$p}", NameKind.ARGUMENT, 5, 4),
        ("by", NameKind.ARGUMENT, 5, 4),
        ("double", NameKind.MACRO, 7, 4),
        ("twice", NameKind.LET, 7, 2),
        ("ft", NameKind.INPUT, 8, 3),
        ("i", NameKind.CAPTURE, 8, 8),
        ("p", NameKind.CAPTURE, 8, 8),
        ("{i}", NameKind.CAPTURE, 8, 8),
        ("{i}", NameKind.CAPTURE, 9, 9),
        ("{p}", NameKind.CAPTURE, 9, 9),
        ("{i}", NameKind.CAPTURE, 9, 9),
        ("{e}", NameKind.CAPTURE, 10, 10),
        ("e", NameKind.CAPTURE, 10, 10),
        ("x", NameKind.SOURCE, 10, 10),
        ("y", NameKind.SOURCE, 10, 10),
        ("scale", NameKind.PARAM, 10, 1),
        ("{n}", NameKind.COUNTER, 11, 11),
        ("{b}", NameKind.CAPTURE, 13, 12),
        ("ft", NameKind.INPUT, 15, 3),
    ]


def test_a_group_of_a_regular_expression_is_defined_where_it_is_named() -> None:
    found = resolved('rename /a\\.(?P<one>.*)\\.(?P<two>.*)/ -> "{two}.{one}"')
    assert [(one.span.text, one.span.start) for one in found.definitions if one.span is not None] == [
        ("one", 15),
        ("two", 28),
    ]
    assert [(span.text, one.name) for span, one in found.uses.items()] == [("{two}", "two"), ("{one}", "one")]


def test_a_parameter_from_outside_is_defined_nowhere_in_the_rules() -> None:
    program = parse(Source("r.sx", "set a.w = it * scale"))
    found = resolve([ProgramPart(program, shared=True)], Files(), Outside(params={"scale": Given(2)}))
    assert found.definitions == ()
    assert [(span.text, one.kind) for span, one in found.uses.items()] == [("scale", NameKind.PARAM)]


def test_the_other_tensor_of_expect_same_is_resolved() -> None:
    found = resolved("input ft\nexpect same a.{i}.q, ft::a.{i}.q")
    assert [(span.text, one.name) for span, one in found.uses.items()] == [("ft", "ft"), ("{i}", "i")]
    assert found.read == {"ft"}
    with pytest.raises(statex.StatexError, match="there is no input `ft`"):
        statex.compile("expect same a.{i}.q, ft::a.{i}.q").check()


# --- programs and patterns are read once ----------------------------------------------------------------------------


def test_a_file_is_read_and_parsed_once() -> None:
    files = Files(lib="include 'base.sx'", base="macro m() { drop a.w }")
    texts = ["include 'lib.sx'\ninclude 'base.sx'\nuse m()", "include 'lib.sx'\nuse m()"]
    parts = [ProgramPart(parse(Source(f"{n}.sx", text)), stem=stem_of(f"{n}.sx")) for n, text in enumerate(texts)]
    found = resolve(parts, files, Outside())
    assert (found.diagnostics, sorted(files.read)) == ((), ["base.sx", "lib.sx"])
    assert {path: program.source.name for (_, path), program in found.programs.items()} == {
        "lib.sx": "lib.sx",
        "base.sx": "base.sx",
    }


def test_planning_reads_no_rule_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib.sx").write_text("param n = 2\nset a.w = it * n")
    (tmp_path / "r.sx").write_text("include 'lib.sx' with n = 3")
    opened: list[str] = []
    real = Path.open

    def noted(path: Path, *how: Any, **more: Any) -> Any:
        opened.append(path.name)
        return real(path, *how, **more)

    monkeypatch.setattr(Path, "open", noted)
    result = statex.load(tmp_path / "r.sx").apply(STATE)
    assert torch.equal(result["a.w"], STATE["a.w"] * 3)
    assert opened == ["r.sx", "lib.sx"]


def test_compiled_are_the_patterns_that_hang_on_nothing_but_their_text() -> None:
    found = resolved(
        "param p: str\nrename a.{i} -> b.{i}\nrename c.{$p} -> d.{$p}\nmerge e.{j} as x, f.{j} -> g.{j} = x"
    )
    assert [node.text for node in found.patterns] == ["a.{i}", "e.{j}"]
    assert [node.text for node in found.templates] == ["b.{i}", "g.{j}"]


def test_a_pattern_of_a_macro_is_below_each_within_that_uses_it() -> None:
    rules = """macro double() { set {m}.w = it * 2 }
within x { use double() }
within y.{i} { use double() }
use double()"""
    state = {"x.a.w": torch.ones(1), "y.0.a.w": torch.ones(1), "z.w": torch.ones(1)}
    found = statex.compile(rules).apply(state)
    # `{m}` is one segment: the last statement meets `z.w` alone.
    assert {key: float(one) for key, one in found.items()} == {"x.a.w": 2, "y.0.a.w": 2, "z.w": 2}


def test_each_use_of_a_macro_asks_for_itself() -> None:
    names = [f"a{n}" for n in range(50)]
    rules = "macro tried(m) { if exists({$m}.w) { drop {$m}.w } }\n" + "\n".join(f"use tried('{n}')" for n in names)
    state = {f"{name}.w": torch.ones(1) for name in names[1::7]}
    assert statex.compile(rules).apply({**state, "b": torch.ones(1)}).keys() == {"b"}


def test_a_program_with_errors_is_not_carried_out() -> None:
    with pytest.raises(statex.StatexError) as caught:
        statex.compile("drop nothing.here\nset a.w = it * x").plan(STATE)
    assert [one.code.id for one in caught.value.diagnostics] == ["SX202"]


# --- what nothing uses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "names"),
    [
        ("param x = 1\ndrop a.w", ["x"]),
        ("param _x = 1\nlet _y = 2\ndrop a.w", []),
        ("param x = 1\nparam y = x\ndrop a.w", ["y"]),
        ("param x = 1\nexpect x == 1", []),
        ("param x: str = 'w'\ndrop a.{$x}", []),
        ("param x: str = 'w'\ndrop /a.{$x}/", []),
        ("param x: str = 'w'\nrename prefix {$x} -> y", []),
        ("param x: str = 'w'\nadd value('a') = x", []),
        ("param x = 1\nrename a.{i:int}.q -> a.{i + x}.q", []),
        ("param d: dtype = f32\nset a.w in d = it * 2", []),
        ("param x = 1\nif x == 1 { drop a.w }", []),
        ("param x = 1\ndrop a.w where exists(a.{$x})", []),
        ("param x: str = 'w'\nmacro m(p) { drop {$p} }\nuse m(\"a.{$x}\")", []),
        ("let x = 1\nset a.w = it * 2", ["x"]),
        ("if exists(a.w) { let x = 1 } else { let x = 2 }\nset a.w = it * x", []),
        ("if exists(a.w) { let x = 1 } else { let x = 2 }\ndrop a.w", ["x"]),
        ("within a { let x = 1\ndrop w }", ["x"]),
        ("macro m() { drop a.w }\ndrop b", ["m"]),
        ("macro m() { drop a.w }\nmacro n() { use m() }\nuse n()", []),
        ("macro m(p, q) { drop {$p} }\nuse m('a.w', 1)", ["q"]),
        ("macro m(p, _q) { drop {$p} }\nuse m('a.w', 1)", []),
        ("input ft\ndrop a.w", ["ft"]),
        ("input ft\nset a.w = ft::{key}", []),
        ("input ft\nadd a = mean(ft::b)", []),
        ("input ft\norder like ft", []),
    ],
)
def test_names_that_nothing_uses(rules: str, names: list[str]) -> None:
    assert unused(rules) == names


def test_names_of_included_files() -> None:
    lib = "param n = 1\nparam m = 2\nlet k = 3\nmacro one() { drop a.w }\nmacro two() { set a.w = it * n }"
    assert unused("include 'lib.sx' with n = 2\nuse one()", lib=lib) == ["m", "k"]


def test_a_file_that_is_included_again_says_the_same_once() -> None:
    lib = "input ft\nlet k = 3\nlet j = 2\nset a.w = it * j"
    # What is known of inputs differs, so that the file is looked at twice.
    assert unused("include 'lib.sx'\ninclude 'more.sx'", lib=lib, more="include 'lib.sx'") == ["k"]


def test_what_a_file_defines_that_does_nothing_is_for_others() -> None:
    assert unused("param x = 1\nmacro m() { set a.w = it * x }\nmacro n() { drop a.w }") == []
    assert unused("input ft\nlet x = 1") == ["x"]


def test_a_name_that_something_beside_the_rules_uses() -> None:
    outside = Outside(used=frozenset(("x",)))
    assert resolved("param x = 1\ndrop a.w", outside).warnings == ()


@pytest.mark.parametrize(
    ("rules", "captures"),
    [
        ("rename a.{i}.{p} -> b.{p}", ["{i}"]),
        ("rename a.{i:int}.w -> b.w", ["{i:int}"]),
        ("rename a.{_i}.{p} -> b.{p}", []),
        ("rename a.{_:int}.{p} -> b.{p}", []),
        ("rename a.{i}.{p} -> b.{p} where i == p", []),
        ("rename a.{i}.b.{i} -> b", []),
        ('rename a.{i} -> "b.{key}"', []),
        ("rename { a.{i}.w -> b.{i}\nb.{i}.{j} -> c.{j} }", ["{i}"]),
        ("rename part attn.{x} -> attention", ["{x}"]),
        ("rename part attn{x} -> attention{x}", []),
        ("copy a.{x} -> b.c", ["{x}"]),
        ("add b.{i} = it * 2 for a.{i}.{j}", ["{j}"]),
        ("add b.{i} = it * j for a.{i}.{j:int}", []),
        ("set b.{i} = ft::a.{i}.{j} for a.{i}.{j}", []),
        ("split a.{i}.{qkv} -> a.{i}.q, a.{i}.k = chunk(2, dim=0)", ["{qkv}"]),
        ("merge a.{i:int}.w over i -> a.w = stack", []),
        ("merge a.{i:int}.w -> a.w = it", ["{i:int}"]),
        ("merge a.{i}.q as q, a.{i}.k as k -> a.qk = cat(q, k)", []),
        # What makes no new key forgets nothing.
        ("drop a.{i}.q", []),
        ("drop a.{i}.{j} where i == '0'", []),
        ("set a.{i}.q = it * 2", []),
        ("expect shape a.{i}.q == [2]", []),
        ("renumber a.{m}.{i:int}", []),
        ("within a.{i} { drop q }", []),
        ("within a.{i} { rename q -> k }", []),
        # What an argument brings along is not known.
        ('macro m(to) { rename a.{i}.q -> {$to} }\nuse m("b.{i}")', []),
        ("macro m(n) { rename a.{i}.q -> b.q where n }\nuse m(true)", ["{i}"]),
    ],
)
def test_captures_that_a_new_key_forgets(rules: str, captures: list[str]) -> None:
    assert unused(f"input ft\n{rules}\ndrop? ft::**") == captures


# --- how it is said -------------------------------------------------------------------------------------------------


def test_a_plan_says_of_an_unread_input_which_tensors_it_has() -> None:
    plan = statex.compile("input ft\nlet x = 1\ndrop a.w").plan(STATE, inputs={"ft": STATE})
    assert [one.code.id for one in plan.warnings] == ["SX925", "SX903"]
    assert plan.warnings[0].span is not None
    assert plan.warnings[0].span.text == "x"


def test_a_state_of_a_migration_is_loaded_without_a_word_of_its_rules(recwarn: pytest.WarningsRecorder) -> None:
    model = torch.nn.Linear(2, 2)
    statex.attach(model, statex.compile("let unused = 1\nrename w.{x} -> {x}"))
    model.load_state_dict({"w.weight": torch.ones(2, 2), "w.bias": torch.ones(2)})
    assert not recwarn.list


# --- what a plan keeps of rules -------------------------------------------------------------------------------------


def filled(step: Any, key: str) -> list[str]:
    """Return what the rules of a step make of a key."""
    found = ((rule, rule.pattern.match(key)) for rule in step.rules)
    return [rule.template.render(bindings, {}) for rule, bindings in found if bindings is not None]


def test_steps_keep_the_patterns_and_templates_that_made_keys_of_keys() -> None:
    state = {f"m.{i}.{p}": torch.ones(4) for i in range(2) for p in ("q", "k", "kv")} | {"a": torch.ones(1)}
    rules = """macro moved(to) { rename m.{i:int}.{p} -> {$to}.{p} }
rename a -> b
use moved("layers.{i + 1}")
within layers.{n:int} {
  copy q -> q2
  merge q as x, k as y -> qk = cat(x, y)
  split kv -> k, v = chunk(2, dim=0)
}"""
    plan = statex.compile(rules).plan(state)
    literal, renamed, copied, merged, split = plan.steps
    assert literal.rules == ()
    for step in (renamed, copied):
        for change in step.changes:
            assert filled(step, change.before[0]) == list(change.after)
    for change in merged.changes:
        assert [filled(merged, key) for key in change.before] == [list(change.after)] * 2
    for change in split.changes:
        assert filled(split, change.before[0]) == list(change.after)


def test_rows_that_match_nothing_leave_no_rules() -> None:
    (step,) = statex.compile("rename { a.{i:int}.q -> b.{i}.q\nc.{x} ->? d.{x} }").plan(STATE).steps
    assert [rule.pattern.node.text for rule in step.rules] == ["a.{i:int}.q"]
