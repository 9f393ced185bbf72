"""Every statement on small states: the keys, their order, the values, the identity of what only moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex import StatexError

T = torch.tensor


def state() -> dict[str, Any]:
    return {
        "a.weight": torch.arange(12.0).reshape(4, 3),
        "a.bias": torch.arange(4.0),
        "l.0.w": T([0.0]),
        "l.2.w": T([2.0]),
        "l.10.w": T([10.0]),
        "steps": T(7),
    }


def run(program: str, given: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return statex.compile(program).apply(given if given is not None else state(), **more)


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("rename a.{x} -> b.{x}", "b.weight b.bias l.0.w l.2.w l.10.w steps"),
        ("rename part w -> weight", "a.weight a.bias l.0.weight l.2.weight l.10.weight steps"),
        ("rename prefix 'l.' -> ''", "a.weight a.bias 0.w 2.w 10.w steps"),
        ("rename suffix '.w' -> ''", "a.weight a.bias l.0 l.2 l.10 steps"),
        ("rename text 's' -> 'S'", "a.weight a.biaS l.0.w l.2.w l.10.w StepS"),
        ("renumber l.{i:int}", "a.weight a.bias l.0.w l.1.w l.2.w steps"),
        ("drop l.*.w", "a.weight a.bias steps"),
        ("keep a.**, steps", "a.weight a.bias steps"),
        ("drop? nothing.**", "a.weight a.bias l.0.w l.2.w l.10.w steps"),
        ("copy a.weight -> head.weight", "a.weight a.bias l.0.w l.2.w l.10.w steps head.weight"),
        ("add b = zeros([2])", "a.weight a.bias l.0.w l.2.w l.10.w steps b"),
        ("add {m}.extra = it for {m}.bias", "a.weight a.bias l.0.w l.2.w l.10.w steps a.extra"),
        ("split a.weight -> {p:q|k}.weight = chunk(2)", "q.weight k.weight a.bias l.0.w l.2.w l.10.w steps"),
        ("split a.weight over e -> e.{e} = unstack", "e.0 e.1 e.2 e.3 a.bias l.0.w l.2.w l.10.w steps"),
        ("renumber l.{i:int}\nmerge l.{i:int}.w over i -> l = stack", "a.weight a.bias l steps"),
        ("merge l.0.w, l.2.w -> l = cat", "a.weight a.bias l l.10.w steps"),
        ("order natural", "a.bias a.weight l.0.w l.2.w l.10.w steps"),
        ("within a { rename weight -> w }", "a.w a.bias l.0.w l.2.w l.10.w steps"),
        ("within l.{i} { rename w -> weight }", "a.weight a.bias l.0.weight l.2.weight l.10.weight steps"),
        ("if count(l.*.w) == 3 { drop l.** } else { drop a.** }", "a.weight a.bias steps"),
        ("if exists(lm_head) { drop l.** } else { drop a.** }", "l.0.w l.2.w l.10.w steps"),
        ("macro m(a) { drop {$a}.** }\nuse m('l')", "a.weight a.bias steps"),
        ("macro m(a, n) { rename {$a}.weight -> {$a}.weight{$n} }\nuse m('a', 3)",
         "a.weight3 a.bias l.0.w l.2.w l.10.w steps"),
        ("param n: int = 2\nlet k = n * 5\ndrop l.{i:int}.w where i == k", "a.weight a.bias l.0.w l.2.w steps"),
        ("drop ** where ndim == 1 and numel == 1", "a.weight a.bias steps"),
        ("drop ** where dtype == i64", "a.weight a.bias l.0.w l.2.w l.10.w"),
        ("drop ** where key matches l.**", "a.weight a.bias steps"),
        ("drop ** where shape == [4, 3]", "a.bias l.0.w l.2.w l.10.w steps"),
        ("expect count(l.*.w) == 3\nexpect no key matches module.**", "a.weight a.bias l.0.w l.2.w l.10.w steps"),
    ],
)  # fmt: skip
def test_the_keys_and_their_order(program: str, keys: str) -> None:
    assert list(run(program)) == keys.split()


@pytest.mark.parametrize(
    ("program", "key", "wanted"),
    [
        ("set a.weight = transpose", "a.weight", torch.arange(12.0).reshape(4, 3).T),
        ("set a.weight = (it[:2] | transpose) * 2", "a.weight", torch.arange(6.0).reshape(2, 3).T * 2),
        ("let n = 1\nset a.bias = it[n::2]", "a.bias", torch.arange(4.0)[1::2]),
        ("let n = 1\nset a.weight = it[n::n, ::n]", "a.weight", torch.arange(12.0).reshape(4, 3)[1::1]),
        ("set a.bias = -it + 1", "a.bias", 1 - torch.arange(4.0)),
        ("set a.bias = (it - 1) ** 2 / 4", "a.bias", (torch.arange(4.0) - 1) ** 2 / 4),
        ("set a.bias = a.weight @ ones([3])", "a.bias", torch.arange(12.0).reshape(4, 3).sum(1)),
        ("set {m}.bias = sum({m}.weight, dim=1)", "a.bias", torch.arange(12.0).reshape(4, 3).sum(1)),
        ("set l.{i:int}.w = it + i", "l.10.w", T([20.0])),
        ("set a.weight = cast(bf16)", "a.weight", torch.arange(12.0).reshape(4, 3).bfloat16()),
        ("set steps = it + 1 where ndim == 0", "steps", T(8)),
        ("set a.weight = rearrange('(h d) c -> h (d c)', h=2)", "a.weight", torch.arange(12.0).reshape(2, 6)),
        ("merge a.weight as w, a.bias as b -> a.wb = cat(w, unsqueeze(b, 1), dim=1)", "a.wb",
         torch.cat([torch.arange(12.0).reshape(4, 3), torch.arange(4.0)[:, None]], 1)),
        ("split a.weight -> x, y = sections([1, 3])", "y", torch.arange(12.0).reshape(4, 3)[1:]),
        ("renumber l.{i:int}\nmerge l.{i:int}.w over i -> l = stack(dim=1)", "l", T([[0.0, 2.0, 10.0]])),
        ("let n = size(a.weight, 0)\nadd n = arange(n)", "n", torch.arange(4.0)),
        ("let n = [2] + [3, 1]\nadd n = ones(n + [2])", "n", torch.ones(2, 3, 1, 2)),
        ("split a.weight -> x, y = sections([0, 4])", "y", torch.arange(12.0).reshape(4, 3)),
        ("split a.weight -> x, y = sections([0, 4])", "x", torch.arange(12.0).reshape(4, 3)[:0]),
        ("add m = mean(it, it * 3) for a.bias", "m", torch.arange(4.0) * 2),
    ],
)  # fmt: skip
def test_the_values(program: str, key: str, wanted: torch.Tensor) -> None:
    found = run(program)[key]
    assert found.dtype == wanted.dtype
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("choices", ["q k v", "v k q", "k v q", "9 10 1", "10 9 1", "b.c a.d a"])
@pytest.mark.parametrize("translated", [False, True])
def test_choices_gather_and_fill_in_the_order_they_are_written(choices: str, translated: bool) -> None:
    texts = choices.split()
    written = "|".join(f"{text}={'zyx'[number]}" if translated else text for number, text in enumerate(texts))
    given = {f"l.{text}.w": torch.full((2,), float(number)) for number, text in enumerate(sorted(texts))}
    merged = run(f"merge l.{{p:{written}}}.w over p -> l.w = cat", given)["l.w"]
    assert torch.equal(merged, torch.cat([given[f"l.{text}.w"] for text in texts]))
    pieces = run(f"split l.w -> l.{{p:{written}}}.w = chunk(3)", {"l.w": merged})
    assert list(pieces) == [f"l.{text}.w" for text in ("zyx" if translated else texts)]
    assert all(torch.equal(one, given[f"l.{text}.w"]) for one, text in zip(pieces.values(), texts, strict=True))


@pytest.mark.parametrize(
    ("program", "cases"),
    [
        ("merge l.2.w, a.weight -> x = it[0] @ it[1]", ("l.2.w",)),
        ("merge l.{i:int}.{n} as w -> x.{i}.{n} = w @ a.weight", ("i = 0, n = w", "i = 2, n = w", "i = 10, n = w")),
        ("split a.weight -> x, y = chunk(3)", ("a.weight",)),
    ],
)
def test_cases_are_named_by_their_captures_or_their_first_key(program: str, cases: tuple[str, ...]) -> None:
    with pytest.raises(StatexError) as caught:
        run(program)
    assert tuple(case for found in caught.value.diagnostics for case in found.cases) == cases


def test_of_several_choices_the_last_one_counts_fastest() -> None:
    pieces = run("split a -> {p:y|x}.{t:w|b} = unstack", {"a": torch.arange(4)})
    assert {key: int(tensor) for key, tensor in pieces.items()} == {"y.w": 0, "y.b": 1, "x.w": 2, "x.b": 3}


def test_numbers_gather_in_their_order() -> None:
    given = {f"l.{number}.w": T([float(number)]) for number in (10, 9, 1, 0, 2, 3, 11, 4, 5, 8, 7, 6)}
    assert run("merge l.{i:int}.w over i -> l.w = cat", given)["l.w"].tolist() == list(range(12))


def test_sources_of_splits_and_merges_are_consumed() -> None:
    assert "a.weight" not in run("split a.weight -> x, y = chunk(2)")
    assert not {"l.0.w", "l.2.w"} & run("merge l.0.w, l.2.w -> l = cat").keys()


def test_a_copy_is_a_tie_and_an_added_clone_is_none() -> None:
    result = run("copy a.weight -> b\nadd c = clone(a.weight)")
    assert result["b"] is result["a.weight"]
    assert result["c"].data_ptr() != result["a.weight"].data_ptr()
    assert torch.equal(result["c"], result["a.weight"])


def test_equal_work_on_tied_tensors_stays_tied() -> None:
    given = {"a": torch.rand(2, 3)}
    given["b"] = given["a"]
    result = run("set a, b = transpose", given)
    assert result["a"].data_ptr() == result["b"].data_ptr()
    apart = run("set a = transpose\nset b = it * 1", given)
    assert apart["a"].data_ptr() != apart["b"].data_ptr()


def test_further_inputs() -> None:
    lora = {"a.down": torch.ones(1, 3), "a.up": torch.ones(4, 1)}
    program = "input lora\nset {m}.weight = it + lora::{m}.up @ lora::{m}.down for lora::{m}.down"
    assert torch.equal(run(program, inputs={"lora": lora})["a.weight"], state()["a.weight"] + 1)


def test_a_regular_expression_over_a_further_input() -> None:
    ft = {"x/y": T(1.0), "x/z": T(2.0)}
    result = run("input ft\ncopy ft::/x\\/(?P<k>.)/ -> ft.{k}\nexpect count(ft::/x.*/) == 2", inputs={"ft": ft})
    assert [result["ft.y"].item(), result["ft.z"].item()] == [1.0, 2.0]
    with pytest.raises(StatexError) as caught:
        run("input ft\ndrop ft::/(/", inputs={"ft": ft})
    assert caught.value.diagnostics[0].code.id == "SX153"


def test_a_family_of_inputs_is_gathered() -> None:
    ranks = [{"a.weight": torch.full((1, 3), float(n))} for n in range(3)]
    program = "input rank[]\nset a.weight = cat(it, rank::{key})"
    result = run(program, {"a.weight": torch.zeros(1, 3)}, inputs={"rank": ranks})
    assert torch.equal(result["a.weight"], T([[0.0] * 3, [0.0] * 3, [1.0] * 3, [2.0] * 3]))


def test_what_only_some_of_a_family_have_is_noticed() -> None:
    ranks = [{"a.weight": T([0.0]), "b": T([1.0])}, {"a.weight": T([2.0]), "c": T([3.0])}]
    program = "input rank[]\nset a.weight = cat(rank::{key})"
    (warning,) = statex.compile(program).plan(state(), inputs={"rank": ranks}).warnings
    assert (warning.code.id, "`b` and `c`" in warning.headline) == ("SX903", True)
    assert not statex.compile(f"{program}\ndrop rank::b, rank::c").plan(state(), inputs={"rank": ranks}).warnings
    with pytest.raises(StatexError) as caught:
        run("input rank[]\nadd c = cat(rank::c)", inputs={"rank": ranks})
    (found,) = caught.value.diagnostics
    assert (found.code.id, found.span.text if found.span else "") == ("SX321", "rank::c")


@pytest.mark.parametrize(
    "program",
    [
        "add x = zeros([1]) for m._extra_state",
        "add {k}.x = zeros([1]) for {k}._extra_state",
        "set m._extra_state = zeros([1])",
        "set m._extra_state = it for m.w",
        "set m.w = it for m._extra_state",
        "split m._extra_state -> a, b = chunk(2)",
        "merge m.{_} as x -> y = cat(x, m._extra_state)",
        "add x = m._extra_state",
        "set m.w = it + m._extra_state",
    ],
)
def test_what_is_not_a_tensor_is_not_computed_with(program: str) -> None:
    with pytest.raises(StatexError) as caught:
        run(program, {"m.w": T([1.0]), "m._extra_state": {"a": 1}})
    assert {found.code.id for found in caught.value.diagnostics} == {"SX308"}


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("add new.{k} = it * 2 for m.{k}", "m.w m._extra_state new.w"),
        ("set ** = it * 2", "m.w m._extra_state"),
        ("set m.w = it * 2 for m.{k}", "m.w m._extra_state"),
        ("split m.{k} -> {k}.{p:a|b} = chunk(2)", "w.a w.b m._extra_state"),
        ("merge m.{k} as x -> {k} = x * 2", "w m._extra_state"),
    ],
)
def test_a_wildcard_leaves_out_what_is_not_a_tensor(program: str, keys: str) -> None:
    extra = {"a": 1}
    found = run(program, {"m.w": T([1.0, 2.0]), "m._extra_state": extra})
    assert list(found) == keys.split()
    assert found["m._extra_state"] is extra


@pytest.mark.parametrize(
    ("dtype", "value", "codes"),
    [
        *((dtype, "cast(f32)", ["SX902"]) for dtype in ("bool", "int8", "uint8", "int64", "uint16")),
        *((dtype, "cast(bf16) * 2", ["SX902"]) for dtype in ("bool", "int32")),
        ("int64", "cast(f32) / 2", ["SX902"]),
        ("int64", "cast(i32)", []),
        ("bool", "cast(i64)", []),
        ("int64", "it > 0", ["SX906"]),
        ("float32", "cast(i64)", []),
        ("float32", "it > 0", ["SX906"]),
        ("float32", "cast(bf16)", []),
        ("float32", "zeros(shape, dtype=f64)", []),
        ("bfloat16", "zeros(shape)", ["SX906"]),
        ("float32", "it * 2", []),
        ("complex64", "cast(c128)", []),
    ],
)
def test_what_is_said_of_another_dtype(dtype: str, value: str, codes: list[str]) -> None:
    given = {"a": torch.ones(2).to(getattr(torch, dtype))}
    plan = statex.compile(f"set a = {value}").plan(given)
    assert [found.code.id for found in plan.warnings] == codes
    changed = statex.compile(f"set a = {value}").apply(given)["a"].dtype != given["a"].dtype
    assert changed or not codes


def test_a_plan_says_how_many_keys_an_order_moves() -> None:
    state = {key: torch.ones(1) for key in ("a.10.w", "a.9.w", "z")}
    plan = statex.compile("order natural\norder natural").plan(state)
    assert [line.split("natural")[1].strip() for line in str(plan).splitlines()[:2]] == ["2 reordered", "nothing to do"]
    assert [step["reordered"] for step in plan.to_dict()["steps"]] == [2, 0]


def test_order_like_the_target() -> None:
    target = {"b": T(1.0), "a": T(2.0)}
    given = {"a": T(1.0), "b": T(2.0)}
    assert list(statex.compile("order like target").apply(given, target=target)) == ["b", "a"]


def test_what_the_other_does_not_have_comes_last_in_its_own_order() -> None:
    given = {key: T(1.0) for key in ("z", "c", "y", "a", "x", "b")}
    other = {key: T(1.0) for key in ("b", "gone", "a", "c")}
    assert "".join(run("input ft\norder like ft", given, inputs={"ft": other})) == "baczyx"
    with pytest.raises(StatexError):  # what is missing in the target is told of an order like it
        statex.compile("order like target").apply(given, target=other)


def test_include_with_parameters(tmp_path: Path) -> None:
    (tmp_path / "part.sx").write_text("param what\nparam n: int = 1\ndrop {$what}.**\nadd n = full([1], n)\n")
    (tmp_path / "rules.sx").write_text("include 'part.sx' with what = 'l', n = 4\n")
    result = statex.load(tmp_path / "rules.sx").apply(state())
    assert list(result) == ["a.weight", "a.bias", "steps", "n"]
    assert result["n"].item() == 4


NESTED = {"epoch": 3, "state": {"m.w": T(1.0)}, "optimizer": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("root 'state'\nrename m.w -> w", {"epoch": 3, "state": {"w": 1.0}, "optimizer": {"lr": 0.1}}),
        ("root 'state' -> 'model.inner'", {"epoch": 3, "optimizer": {"lr": 0.1}, "model": {"inner": {"m.w": 1.0}}}),
        ("root 'state' -> ''", {"m.w": 1.0}),
    ],
)
def test_roots(tmp_path: Path, program: str, keys: Any) -> None:
    torch.save(NESTED, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", statex.compile(program))
    found = torch.load(tmp_path / "out.pth", weights_only=True)

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.item()
        return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    assert plain(found) == keys


def test_plain_values_of_a_nested_checkpoint(tmp_path: Path) -> None:
    torch.save(NESTED, tmp_path / "in.pth")
    rules = statex.compile("root 'state'\nadd n = full([1], value('epoch'))")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules)
    assert torch.load(tmp_path / "out.pth")["state"]["n"].item() == 3


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("drop nothing.**", "SX301"),
        ("keep nothing.**", "SX301"),
        ("set nothing = ones_like", "SX301"),
        ("copy a.weight -> a.bias", "SX303"),
        ("add a.bias = zeros([4])", "SX303"),
        ("expect count(l.*.w) == 4", "SX317"),
        ("expect no key matches l.**", "SX317"),
        ("merge l.{i:int}.w over i -> l = stack", "SX310"),
        ("merge {m:**}.weight, {m}.w -> {m} = cat", "SX309"),
        ("split a.weight -> x, y, z = chunk(2)", "SX314"),
        ("set a.weight = permute(0)", "SX401"),
        ("set a.bias = it + ::steps", "SX402"),
        ("set a.weight = nosuch(it)", "SX203"),
        ("drop l.*.w where i == 1", "SX202"),
        ("set steps = it where ndim == missing", "SX202"),
        ("use gone('l')", "SX212"),
        *((f"let n = [1] {symbol} [2]", "SX207") for symbol in ("-", "*", "/", "//", "%", "**", "<", ">=")),
        *((f"let n = {operands}", "SX207") for operands in ("[1] + 2", "1 + [2]", "'a' + [1]", "[1] + 'a'", "'a' + 1")),
        *((f"let n = 'a' {symbol} 'b'", "SX207") for symbol in ("-", "*", "/", "//", "%", "**")),
        ("set a.bias = it[0, 0]", "SX406"),
        ("param n: int", "SX204"),
    ],
)
def test_what_cannot_be(program: str, code: str) -> None:
    before = state()
    kept = dict(before)
    with pytest.raises(StatexError) as caught:
        run(program, before)
    assert {d.code.id for d in caught.value.diagnostics} == {code}
    assert all(before[key] is value for key, value in kept.items())
    assert list(before) == list(kept)


def experts() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {f"e.{i}.{n}": torch.rand(3, 4 if n == "w" else 1, generator=generator) for i in range(3) for n in "ws"}


@pytest.mark.parametrize(
    ("value", "function"),
    [
        ("w * s", torch.mul),
        ("w | mul(s)", torch.mul),
        ("sub(x=w, y=s)", torch.sub),
        ("weight_norm(w, s)", lambda w, s: torch._weight_norm(w, s, 0)),
        ("weight_norm(v=w, g=s)", lambda w, s: torch._weight_norm(w, s, 0)),
        ("matmul(y=s, x=rearrange(tensor=w, pattern='a b -> b a'))", lambda w, s: w.T @ s),
    ],
)
def test_of_two_tuples_pairs_are_taken(value: str, function: Any) -> None:
    given = experts()
    done = run(f"merge e.{{i:int}}.w as w, e.{{i:int}}.s as s over i -> w = stack({value})", given)
    assert torch.equal(done["w"], torch.stack([function(given[f"e.{i}.w"], given[f"e.{i}.s"]) for i in range(3)]))


def test_tuples_of_other_lengths_make_no_pairs() -> None:
    with pytest.raises(StatexError) as caught:
        run("merge e.{i:int}.w as w, e.{i:int}.s as s over i -> w = stack(w * s[1:])", experts())
    assert [d.code.id for d in caught.value.diagnostics] == ["SX401"]
    assert caught.value.diagnostics[0].headline == "3 and 2 tensors make no pairs"


@pytest.mark.parametrize(
    "program",
    [
        "input ft\nset a.weight = ft::{key}",
        "input ft[]\nset a.weight = cat(ft::{key})",
        "input ft\ncopy ft::** -> b.**",
        "input ft\nadd b = zeros(shape(ft::a.weight))",
        "input ft\nif exists(ft::a.weight) { drop gone } else { drop gone }",
        "input ft\nexpect count(ft::**) == 3\norder like ft",
    ],
)
def test_an_input_that_was_not_given_is_said_once(program: str) -> None:
    with pytest.raises(StatexError) as caught:
        run(program)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX210"]


@pytest.mark.parametrize(
    "use",
    [
        "rename l.{$n}.w -> x",
        "rename l.{i:int}.w -> l.{i + n}.v",
        "rename part l -> l{n}",
        "rename text 'l' -> \"{$n}\"",
        "let m = n + 1\nadd z = zeros([m, 2])",
        "set a.bias = it[n:]\nset a.bias = it[n] * it",
        "set a.weight = it * n\nset a.weight = size(it, 0) * it\nset a.weight = it where ndim == 2",
        "if n > 3 { drop gone } else { drop gone }",
        "expect n == 3\nexpect key matches l.{$n}",
        "drop l.** where not (numel == n)",
    ],
)
def test_of_what_hangs_on_an_error_nothing_more_is_said(use: str) -> None:
    with pytest.raises(StatexError) as caught:
        run(f"param n: int\n{use}")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX204"]


def test_a_condition_that_is_at_fault_is_said_once() -> None:
    with pytest.raises(StatexError) as caught:
        run("drop l.{i}.w where i == 10")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX207"]


def test_a_value_that_is_no_text_is_said_to_be_none() -> None:
    with pytest.raises(StatexError) as caught:
        run("param n: list\nrename l.0.w -> l.{n}", n=[1])
    assert [d.headline for d in caught.value.diagnostics] == ["`n` cannot be part of a key: only text and ints can"]


def test_sources_gathered_over_a_number_are_equally_many() -> None:
    given = {"l.0.a": T([0.0]), "l.1.a": T([1.0]), "l.0.b": T([2.0])}
    with pytest.raises(StatexError) as caught:
        run("merge l.{i:int}.a as a, l.{i}.b as b over i -> l.s = cat(stack(a), stack(b))", given)
    assert [(d.code.id, d.span.text if d.span else "") for d in caught.value.diagnostics] == [("SX310", "l.{i}.b")]
    # To renumber would put tensors together that do not belong together.
    assert not [n for n in caught.value.diagnostics[0].notes if n.kind == "help"]


@pytest.mark.parametrize(
    ("program", "keys"),
    [
        ("set l.{i:int}.w, m.{i}.w = it * 0 where i in [2, 10]", {"l.2.w", "l.10.w", "m.2.w"}),
        ("drop l.{i:int}.w, m.{i}.w where i in [2, 10]", {"l.2.w", "l.10.w", "m.2.w"}),
        ("keep l.{i:int}.w, m.{i}.w where i == 0", {"l.2.w", "l.10.w", "m.2.w"}),
    ],
)
def test_a_capture_has_the_type_of_its_first_mention(program: str, keys: set[str]) -> None:
    given = {"l.0.w": T([1.0]), "l.2.w": T([2.0]), "l.10.w": T([3.0]), "m.0.w": T([4.0]), "m.2.w": T([5.0])}
    result = run(program, given)
    assert {key for key in given if key not in result or result[key] == 0} == keys


@pytest.mark.parametrize(
    "value",
    [
        "rearrange('(x y) z -> y (x z)', x=2)",
        "it | rearrange('(x y) z -> y (x z)', x=2)",
        "rearrange(it, '(axes y) z -> y (axes z)', axes=2)",
        "rearrange(tensor=it, pattern='(torch y) z -> y (torch z)', torch=2)",
    ],
)
def test_an_axis_has_any_name_einops_takes(value: str) -> None:
    wanted = torch.arange(12.0).reshape(2, 2, 3).permute(1, 0, 2).reshape(2, 6)
    assert torch.equal(run(f"set a.weight = {value}")["a.weight"], wanted)


@pytest.mark.parametrize(
    ("program", "help_"),
    [
        ("rename a -> 'x y'", "if it is not needed, drop it first: `drop 'x y'`"),
        (
            "copy a -> 'x y'",
            "`set 'x y' = …` gives it a new value; if it is not needed, drop it first: `drop 'x y'`",
        ),
        ("drop cd.w", "did you mean `'c-d.w'`? if it may be absent: `drop?`"),
        ('drop "c-e.{p}"', 'did you mean `"c-d.{p}"`? if it may be absent: `drop?`'),
        ("set a = it + ::'x z'", "did you mean `::'x y'`?"),
        ("set a = it + ::aa", "did you mean `::a`?"),
    ],
)
def test_keys_in_helps_are_written_as_rules_write_them(program: str, help_: str) -> None:
    with pytest.raises(StatexError) as caught:
        run(program, {"a": T(1.0), "x y": T(2.0), "c-d.w": T(3.0)})
    assert "; ".join(n.text for n in caught.value.diagnostics[0].notes if n.kind == "help") == help_


def test_a_for_over_an_input_does_not_say_where_in_the_block_it_writes() -> None:
    given = {f"m.l.{i}.{j}.w": T(1.0) for i in range(2) for j in "ab"}
    ft = {f"{j}.w": T(1.0) for j in "ab"}
    rules = statex.compile("input ft\nwithin m.l.{i} { set {j}.w = it + ft::{j}.w for ft::{j}.w }")
    with pytest.raises(StatexError) as caught:
        rules.plan(given, inputs={"ft": ft})
    (found,) = caught.value.diagnostics
    assert (found.code.id, found.headline) == ("SX155", "nothing says which `{i}` of the `within` around is meant")
    assert found.span is not None
    assert found.span.text == "{j}.w"
    rules = statex.compile("input ft\nwithin m.l.{i} { set {j}.w = it + ft::{i}.{j}.w for ft::{i}.{j}.w }")
    result = rules.apply(given, inputs={"ft": {f"{i}.{j}.w": T(float(i)) for i in range(2) for j in "ab"}})
    assert [float(tensor) for tensor in result.values()] == [1.0, 1.0, 2.0, 2.0]
