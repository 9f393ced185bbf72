"""Statements and what undoes them, as text; each pair is carried out, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex.grammar import factory as make
from statex.grammar.printer import show
from statex.inverse.program import inverse
from statex.inverse.stored import rules_giving
from tests.inverse.test_random import same

STATE: dict[str, Any] = {
    "h.0.b": torch.randn(3), "h.1.b": torch.randn(3), "qkv.w": torch.randn(6, 2), "c": torch.randn(2, 3).bfloat16(),
    "wide.w": torch.randn(10, 4), "n": torch.tensor([-(2**63), 2**63 - 1, 0]),
    "e.3.a": torch.randn(2), "e.10.a": torch.randn(2),
}  # fmt: skip

PAIRS = [
    ("rename h.{i:int}.b -> l.{i + 1}.b", "rename l.{i:int}.b -> h.{i - 1}.b"),
    ("rename h.{i:int}.b -> l.{7 - i}.b", "rename l.{i:int}.b -> h.{7 - i}.b"),
    ("rename h.*.b -> l.*.b", "rename l.*.b -> h.*.b"),
    ("rename h.{i}.b -> bias.{i}  # biases", "rename bias.{i} -> h.{i}.b  # biases"),
    ("rename prefix 'h.' -> 'layers.'", "rename prefix 'layers.' -> 'h.'"),
    ("rename suffix '.b' -> '.bias'", "rename suffix '.bias' -> '.b'"),
    ("rename text 'k' -> 'K'", "rename text 'K' -> 'k'"),
    ("rename part h -> model.layers", "rename part model.layers -> h"),
    ("rename part { h -> '' }", "rename {n:int}.b -> h.{n}.b"),
    ("rename { h.0.b -> h.1.b; h.1.b -> h.0.b }", "rename {\n  h.1.b -> h.0.b\n  h.0.b -> h.1.b\n}"),
    ("within h.{i} { rename b -> bias }", "within h.{i} {\n  rename bias -> b\n}"),
    (r"rename /h\.(\d+)\.b/ -> bias.{1}", r"rename /bias\.(\d+)/ -> h.{1}.b"),
    (r"rename /h\.(?P<i>\d)\.(b|w)/ -> x.{2}.{i}", r"rename /x\.(b|w)\.(?P<i>\d)/ -> h.{i}.{1}"),
    (r"rename /(h|l)\.(\d)\.b/ -> {1}.{2}{2}", "rename {\n  h.00 -> h.0.b\n  h.11 -> h.1.b\n}"),
    ("drop? x\nrenumber h.{i:int}", ""),
    ("renumber e.{i:int}", "rename {\n  e.0.{rest:**} -> e.3.{rest}\n  e.1.{rest:**} -> e.10.{rest}\n}"),
    ("renumber e.{i:int}.a", "rename {\n  e.0.a -> e.3.a\n  e.1.a -> e.10.a\n}"),
    ("renumber {m}.{i:int}", "rename {\n  e.0.a -> e.3.a\n  e.1.a -> e.10.a\n}"),
    ("set h.{i}.b = flip(0) for h.{i:int}.b", "set h.{i}.b = flip([0]) for h.{i:int}.b"),
    ("set qkv.w = roll([1, -1], dims=[0, 1])", "set qkv.w = roll([-1, 1], dims=[0, 1])"),
    ("set qkv.w = permute(1, 0) | flip(0, 1)", "set qkv.w = flip([0, 1]) | permute([1, 0])"),
    ("set qkv.w = unflatten(0, [2, 3])", "set qkv.w = reshape([6, 2])"),
    ("set qkv.w = it[:, [1, 0]]", "set qkv.w = it[:, [1, 0]]"),
    ("set qkv.w = clone", "set qkv.w = clone"),
    ("set qkv.w = flatten", "set qkv.w = reshape([6, 2])"),
    ("set qkv.w = unsqueeze(1)\nset qkv.w = squeeze(1)", "set qkv.w = reshape([6, 1, 2])\nset qkv.w = reshape([6, 2])"),
    ("set c = it / -1", "set c = it / -1"),
    ("set c = 1 * it", "set c = it * 1"),
    ("set qkv.w = transpose", "set qkv.w = transpose"),
    ("set qkv.w = transpose | neg | reshape([3, 4])", "set qkv.w = reshape([2, 6]) | neg | transpose"),
    ("set qkv.w = rearrange('(x h) c -> h (x c)', x=3)", "set qkv.w = rearrange('h (x c) -> (x h) c', x=3)"),
    ("set qkv.w = index_select(0, [2, 0, 1, 3, 5, 4])", "set qkv.w = index_select(0, [1, 2, 0, 3, 5, 4])"),
    ("set qkv.w = it[[5, 4, 3, 2, 1, 0]]", "set qkv.w = it[[5, 4, 3, 2, 1, 0]]"),
    ("set qkv.w = resize([8, -1])", "set qkv.w = it[:6, :]"),
    ("set qkv.w = pad([1, 1])", "set qkv.w = it[..., 1:3]"),
    ("set c = unsqueeze(0) | expand(4, -1, -1)", "set c = it[:1, :, :] | reshape([2, 3])"),
    ("set c = cast(f32)", "set c = cast(bf16)"),
    ("copy qkv.w -> tied.w", "drop tied.w"),
    ("add {m}.new = zeros([2]) for h.{m}.b", "drop {m}.new"),
    ("split qkv.w -> q.w, k.w, v.w = chunk(3)", "merge q.w, k.w, v.w -> qkv.w = cat"),
    ("split qkv.w -> {p:q|k|v}.w = chunk(3)", "merge {p:q|k|v}.w over p -> qkv.w = cat"),
    ("split qkv.w over e -> r.{e} = unstack", "merge r.{e:int} over e -> qkv.w = stack"),
    ("merge h.{i:int}.b over i -> all.b = stack", "split all.b over i -> h.{i}.b = unstack"),
    ("merge h.0.b, h.1.b -> hb = cat", "split hb -> h.0.b, h.1.b = sections([3, 3])"),
    ("split qkv.w -> q.w, k.w = chunk(2) | transpose", "merge q.w, k.w -> qkv.w = transpose | cat"),
    (
        "split wide.w -> a.w, b.w = sections([6, 4])\nset a.w = transpose\nrename b.w -> z.w",
        "rename z.w -> b.w\nset a.w = transpose\nmerge a.w, b.w -> wide.w = cat",
    ),
    (
        "add e1.w = wide.w[:6]\nadd e2.w = wide.w[4:]\ndrop wide.w",
        "add wide.w = cat(e1.w, e2.w | narrow(0, 2, 4))\ndrop e2.w\ndrop e1.w",
    ),
    ("param k: int = 2\nrename h.{i:int}.b -> h.{i + k}.b", "param k: int = 2\n\nrename h.{i:int}.b -> h.{i - k}.b"),
    ("if exists(h.0.b) { set c = neg }", "set c = neg"),
    ("set c = it * 3", None),
    ("set c = it * 2", None),
    ("set c = it + 1", None),
    ("set c = it * -1", "set c = it * -1"),
    ("set c = transpose | neg | mul(-1)", "set c = it * -1 | neg | transpose"),
    ("set n = -1 * it + 1", "set n = (it - 1) * -1"),
    ("set n = it + 3\nset n = it - 200", "set n = it + 200\nset n = it - 3"),
    ("macro f(a) { rename {$a}.b -> {$a}.e }\nuse f('h.0')",
     "macro f(a) {\n  rename {$a}.e -> {$a}.b\n}\n\nuse f('h.0')"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "inverse"), PAIRS, ids=[rules for rules, _ in PAIRS])
def test_statements_turned_round(rules: str, inverse: str | None) -> None:
    program = statex.compile(rules)
    if inverse is None:
        with pytest.raises(statex.StatexError) as raised:
            program.inverse(STATE)
        assert raised.value.diagnostics[0].code.id == "SX333"
        return
    found = program.inverse(STATE)
    assert found.text == (inverse + "\n" if inverse else "")
    back = statex.compile(found.text).apply(program.apply(STATE))
    assert back.keys() == STATE.keys()
    assert all(same(back[key], value) for key, value in STATE.items())


KEPT = [
    ("set wide.w = it[:6]", "set wide.w = cat(it, lost::{key})", {"wide.w": (4, 4)}),
    ("set wide.w = it[:, 1:]", "set wide.w = cat(lost::{key}, it, dim=1)", {"wide.w": (10, 1)}),
    (
        "set wide.w = it[2:6]",
        "set wide.w = cat(lost::{key}, it, lost::{key}.2)",
        {"wide.w": (2, 4), "wide.w.2": (4, 4)},
    ),
    ("set h.{i}.b = it[:2]", "set h.{i}.b = cat(it, lost::{key})", {"h.0.b": (1,), "h.1.b": (1,)}),
    (
        "within h.{i} { rename b -> c; set c = it[1:] }",
        "within h.{i} {\n  set c = cat(lost::h.{i}.{key}, it)\n  rename c -> b\n}",
        {"h.0.c": (1,), "h.1.c": (1,)},
    ),
    (
        "split wide.w -> a.w, b.w = sections([6, 4])\nset a.w = neg\nset a.w = it[:2]\ndrop b.w",
        "copy lost::b.w -> b.w\nset a.w = cat(it, lost::{key})\nset a.w = neg\nmerge a.w, b.w -> wide.w = cat",
        {"a.w": (4, 4), "b.w": (4, 4)},
    ),
    (
        "split qkv.w -> {p:q|k|v}.w = chunk(3)\nrename k.w -> z.w\ndrop z.w",
        "copy lost::** -> **\nrename z.w -> k.w\nmerge {p:q|k|v}.w over p -> qkv.w = cat",
        {"z.w": (2, 2)},
    ),
    (
        "split wide.w over e -> r.{e} = unstack\ndrop r.0, r.9",
        "copy lost::** -> **\nmerge r.{e:int} over e -> wide.w = stack",
        {"r.0": (4,), "r.9": (4,)},
    ),
    (
        "add u = (qkv.w | chunk(3))[1]\ndrop qkv.w",
        "add qkv.w = cat(lost::qkv.w, ::u, lost::qkv.w.2)\ndrop u",
        {"qkv.w": (2, 2), "qkv.w.2": (2, 2)},
    ),
    (
        "merge h.0.b, h.1.b -> hb = cat\nset hb = it[:4]",
        "set hb = cat(it, lost::{key})\nsplit hb -> h.0.b, h.1.b = sections([3, 3])",
        {"hb": (2,)},
    ),
    (
        "add w = wide.w[:6]\nset wide.w = it[5:8]",
        "add inverse.1 = cat(::w, wide.w | narrow(0, 1, 2), lost::wide.w)\ndrop wide.w\n"
        "rename inverse.1 -> wide.w\ndrop w",
        {"wide.w": (2, 4)},
    ),
    # Nothing of these can be told apart from what is there, or less would not be kept.
    ("set c = mean(dim=0)", "set c = lost::{key}", {"c": (2, 3)}),
    ("set c = cast(f16) where ndim == 2", "set c = lost::{key} where ndim == 2", {"c": (2, 3)}),
    ("set wide.w = it[::2]", "set wide.w = lost::{key}", {"wide.w": (10, 4)}),
    ("set wide.w = it[:9, :3]", "set wide.w = lost::{key}", {"wide.w": (10, 4)}),
    ("set wide.w = it[0]", "set wide.w = lost::{key}", {"wide.w": (10, 4)}),
    ("set c = cast(f32)\nset c = it[:1]", "drop c\nsplit qkv.w -> qkv.w, c = [it, lost::c]", {"c": (2, 3)}),
    (
        "set wide.w = it[:6]\nset wide.w = it * 2",
        "drop wide.w\nsplit c -> c, wide.w = [it, lost::wide.w]",
        {"wide.w": (10, 4)},
    ),
    (
        "drop h.*.b",
        "split qkv.w -> h.0.b, h.1.b, qkv.w = [lost::h.0.b, lost::h.1.b, it]",
        {"h.0.b": (3,), "h.1.b": (3,)},
    ),
    ("drop e.**", "copy lost::** -> **", {"e.3.a": (2,), "e.10.a": (2,)}),
    (
        "split qkv.w -> q.w, k.w = chunk(2)\ndrop q.w, k.w",
        "split h.1.b -> h.1.b, qkv.w = [it, lost::qkv.w]",
        {"qkv.w": (6, 2)},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "text", "shapes"), KEPT, ids=[rules for rules, *_ in KEPT])
def test_what_is_lost_comes_back_from_what_is_kept(rules: str, text: str, shapes: dict[str, Any]) -> None:
    program = statex.compile(rules)
    found = inverse(program.plan(STATE), program.statements, keep=True)
    assert found.text == f"input lost\n\n{text}\n"
    assert (found.lost, found.unshown) == ((), ())
    lost = statex.compile(show(make.program(*rules_giving(found.tensors, STATE)))).apply(STATE)
    assert {key: tuple(value.shape) for key, value in lost.items()} == shapes
    back = statex.compile(found.text).apply(program.apply(STATE), inputs={"lost": lost})
    assert back.keys() == STATE.keys()
    assert (list(back) == list(STATE)) == found.in_order
    assert all(same(back[key], value) for key, value in STATE.items())


def test_what_is_kept_is_put_where_it_stood() -> None:
    state = {"embed": torch.randn(3)} | {f"l.{i}.{p}": torch.randn(2) for i in range(12) for p in ("x", "w", "b", "a")}
    rules = statex.compile("rename l.{i}.{p} -> layers.{i}.{p}\ndrop layers.*.x, layers.*.b, embed")
    found = inverse(rules.plan(state), rules.statements, keep=True)
    assert found.text.startswith(
        "input lost\n\n"
        "split layers.{n:int}.w -> layers.{n}.x, layers.{n}.w, layers.{n}.b\n"
        "    = [lost::layers.{n}.x, it, lost::layers.{n}.b]\n"
        "split layers.0.x -> embed, layers.0.x = [lost::embed, it]\n"
    )
    assert found.in_order
    lost = statex.compile(show(make.program(*rules_giving(found.tensors, state)))).apply(state)
    back = statex.compile(found.text).apply(rules.apply(state), inputs={"lost": lost})
    assert list(back) == list(state)
    assert all(same(back[key], value) for key, value in state.items())
    # Ties are worth more than the order.
    tied = {"z": state["embed"], "b": torch.ones(2), "a": state["embed"]}
    rules = statex.compile("drop b")
    found = inverse(rules.plan(tied), rules.statements, keep=True)
    assert (found.text, found.apart, found.in_order) == ("input lost\n\ncopy lost::** -> **\n", (), False)


LOSSES = [
    ("set wide.w = it[:6]", "it[:6] drops rows 6.. of wide.w"),
    ("set wide.w = it[2:6]", "it[2:6] drops rows ..1 and 6.. of wide.w"),
    ("set wide.w = it[:, 1:]", "it[:, 1:] drops columns ..0 of wide.w"),
    ("set wide.w = it[::2]", "it[::2] drops a part of wide.w"),
    ("drop h.*.b", "drops h.{0..1}.b  x 2"),
    ("keep h.*.b, wide.w, c, n, e.**", "drops qkv.w"),
    ("set wide.w = cast(bf16)", "cast(bf16) rounds wide.w"),
    ("set wide.w = mean(dim=0)", "mean([0]) does not give back wide.w"),
    ("set wide.w = zeros([10, 4])", "replaces wide.w"),
    ("split qkv.w -> q.w, k.w, v.w = chunk(3)\ndrop k.w", "drops what is made of qkv.w"),
]


@pytest.mark.parametrize(("rules", "said"), LOSSES)
def test_what_is_lost_is_said_with_its_place(rules: str, said: str) -> None:
    found = statex.lossless(statex.compile(rules, name="r.sx").plan(STATE))
    line = rules.count("\n") + 1
    *losses, total = str(found).splitlines()
    assert losses == [f"r.sx:{line} {said}"]
    assert total.startswith("not lossless: ")
    assert found.to_dict()["lossless"] is False
    assert sum(len(one["loses"]) for one in found.to_dict()["statements"]) == len(found.losses)


def test_a_partial_inverse_brings_back_the_others() -> None:
    rules = statex.compile("rename h.{i}.b -> l.{i}.b\nset wide.w = it[:6]\nset qkv.w = transpose")
    found = rules.inverse(STATE, partial=True)
    assert found.lost == ("wide.w",)
    back = statex.compile(found.text).apply(rules.apply(STATE))
    assert back.keys() == STATE.keys() - {"wide.w"}
    assert all(same(value, STATE[key]) for key, value in back.items())


def test_a_nan_comes_back_from_a_cast_as_a_nan() -> None:
    state = {"w": torch.tensor([0x7FC0, 0x7FA1, 0xFFFF - 65536, 0x3F80], dtype=torch.int16).view(torch.bfloat16)}
    rules = statex.compile("set w = cast(f32)")
    assert statex.lossless(rules.plan(state)).nan == ("w",)
    back = statex.compile(rules.inverse(state).text).apply(rules.apply(state))["w"]
    assert torch.equal(back.isnan(), state["w"].isnan())
    assert back[3] == 1
    assert statex.lossless(statex.compile("set w = -it").plan(state)).nan == ("w",)
    assert statex.lossless(statex.compile("set w = flip(0)").plan(state)).nan == ()
    assert statex.lossless(statex.compile("set w = -it").plan({"w": torch.arange(3)})).nan == ()


def test_ties_parameters_and_order_are_named_where_they_do_not_come_back() -> None:
    weight = torch.randn(2, 2)
    state = {"p": torch.nn.Parameter(torch.randn(4)), "a.w": weight, "b.w": weight, "z": torch.randn(2)}
    split = statex.compile("set a.w = neg").inverse(state)
    assert split.apart == ("b.w",)
    tied = statex.compile("set a.w, b.w = neg").inverse(state)
    assert tied.apart == ()
    lost = statex.compile("add q = ::p\ndrop p").inverse(state)
    assert lost.text == "copy q -> p\ndrop q\n"
    assert lost.parameters == ("p",)
    assert not lost.in_order


def test_included_files_further_inputs_and_names_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "inner.sx").write_text(
        "param sizes: list\nmacro turned(m) { set {$m}.w = neg }\nrename h.{i}.b -> l.{i}.b\n"
        "split qkv.w -> q.w, k.w = sections(sizes)\n"
    )
    (tmp_path / "outer.sx").write_text(
        "input ft\nparam table: dict = none\ninclude 'inner.sx' with sizes = [2, 4]\nuse turned('q')\n"
        "let n = count(l.*.b)\nset k.w = reshape([n, 4])\ncopy ft::x.w -> y.w\nadd z.w = ft::x.w + 1\n"
        "if n == 2 { rename part l -> layers }\nwithin layers.{i} { set b = neg; rename b -> bias }\n"
    )
    rules, further = statex.load(tmp_path / "outer.sx"), {"ft": {"x.w": torch.ones(2)}}
    found = rules.inverse(STATE, inputs=further)
    # The program has an `n` of its own.
    assert "rename l.{n2:int}.b -> h.{n2}.b\n" in found.text
    back = statex.compile(found.text).apply(rules.apply(STATE, inputs=further))
    assert back.keys() == STATE.keys()
    assert all(same(back[key], value) for key, value in STATE.items())


def test_parameters_that_cannot_be_written_are_given_again() -> None:
    rules = statex.compile("param t: dict\nset wide.w = rearrange('(a b) c -> (b a) c', a=lookup(t, 'a'))")
    given = {"t": {"a": 5}}
    text = rules.inverse(STATE, params=given).text
    assert text.startswith("param t: dict\n")
    back = statex.compile(text).apply(rules.apply(STATE, params=given), params=given)
    assert torch.equal(back["wide.w"], STATE["wide.w"])
