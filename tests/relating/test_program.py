"""Rules that relations become: they can be applied, and touch the keys that are meant and no others."""

from __future__ import annotations

import pytest
import torch

import statex
from statex.core.dtypes import FLOAT32
from statex.core.header import TensorType
from statex.grammar.printer import show
from statex.relating.program import written
from statex.relating.relations import MadeTensor, Relation, Relations
from statex.relating.values import ElementMove, Joined, SourceTensor, moved

State = dict[str, torch.Tensor]


def applied(old: State, new: State) -> tuple[statex.Inferred, State]:
    found = statex.infer(old, new)
    assert not found.errors, (found.rules, found.errors)
    return found, dict(statex.compile(found.rules).apply(old))


def test_what_is_in_the_way_of_a_constant_goes() -> None:
    """Where something is not explained, old keys stay: but for one whose name another tensor has now."""
    old = {"a": torch.randn(4), "b": torch.randn(4), "c": torch.randn(4)}
    new = {"a": torch.zeros(5), "b": torch.randn(3), "c": old["c"]}
    found, made = applied(old, new)
    assert set(found.unexplained) == {"b"}
    assert torch.equal(made["a"], new["a"])
    assert torch.equal(made["b"], old["b"])


@pytest.mark.parametrize("other", ["w.x", "h.q.x"])
def test_a_number_that_goes_takes_no_word_with_it(other: str) -> None:
    key = ".".join("1" if part == "x" else "2" for part in other.split("."))
    old = {key: torch.randn(4), other: torch.randn(4), "m": torch.randn(2)}
    # The others are more, so that what goes is named.
    old |= {f"z{i}": torch.randn(2) for i in range(9)}
    new = {one: tensor for one, tensor in old.items() if one != key}
    found, made = applied(old, new)
    assert found.proved, found.rules
    assert made.keys() == new.keys()


def test_a_number_that_gets_a_value_gives_none_to_words() -> None:
    old = {"0.1": torch.randn(4, 4), "w.x": torch.randn(4, 4)}
    found, made = applied(old, {"0.1": old["0.1"].T.contiguous(), "w.x": old["w.x"]})
    assert found.proved, found.rules
    assert torch.equal(made["w.x"], old["w.x"])


def test_a_word_that_cannot_be_a_choice_stands_by_itself() -> None:
    old = {"odd key.w": torch.randn(3, 4), "k.w": torch.randn(3, 4), "other": torch.randn(3, 4)}
    new = {key: value.T.contiguous() if key != "other" else value for key, value in old.items()}
    found, _ = applied(old, new)
    assert found.proved, found.rules
    assert statex.infer(old, like=new).fits


def test_complex_numbers_are_not_cast_to_real_ones() -> None:
    old = {"a": torch.zeros(4, dtype=torch.complex64)}
    found, _ = applied(old, {"a": torch.zeros(4, dtype=torch.bfloat16)})
    assert found.proved, found.rules


def test_the_least_int_has_no_number_in_rules() -> None:
    least = torch.full((3,), -(2**63))
    old = {"a": torch.randn(4)}
    found, made = applied(old, {"a": old["a"], "b": least, "c": least + 1})
    assert list(found.unexplained) == ["b"]
    assert torch.equal(made["c"], least + 1)


def test_what_is_beside_a_rearranged_tensor_may_have_other_dims() -> None:
    weight = torch.randn(2, 3, 4)
    new = {"m.weight": weight.permute(2, 0, 1).reshape(-1).contiguous(), "m.bias": torch.randn(3)}
    found, made = applied({"m.weight": weight, "m.bias": torch.randn(3)}, new)
    assert list(found.unexplained) == ["m.bias"]
    assert torch.equal(made["m.weight"], new["m.weight"])


def test_a_merge_does_not_match_what_its_other_sources_could() -> None:
    old = [f"h.{n}.{key}" for n in range(3) for key in ("dense.weight", "fc.weight", "fc.bias")]
    pairs = {f"h.{n}.both.weight": (f"h.{n}.dense.weight", f"h.{n}.fc.weight") for n in range(3)}
    both = Joined("cat", (moved(SourceTensor(0), ElementMove("transpose")), SourceTensor(1)), 0)
    made: dict[str, Relation] = {key: MadeTensor(key, keys, both) for key, keys in pairs.items()}
    made |= {key: MadeTensor(key, (key,), SourceTensor()) for key in old if key.endswith("bias")}
    types = {key: TensorType(FLOAT32, (4, 4)) for key in old}
    (rule,) = written(Relations(tuple(old), tuple(made), made), types)
    assert show(rule.statement).startswith("merge {m:**}.dense.weight as a, {m}.fc.weight as b -> {m}.both.weight")


def test_keys_go_by_name_and_others_stay_unless_that_is_much_longer() -> None:
    old = [f"h.{n}.{key}" for n in range(3) for key in ("a.weight", "b.bias", "mask", "inv_freq")]
    kept = [key for key in old if key.endswith(("weight", "bias"))]
    types = {key: TensorType(FLOAT32, (4,)) for key in old}
    made: dict[str, Relation] = {key: MadeTensor(key, (key,), SourceTensor()) for key in kept}
    (rule,) = written(Relations(tuple(old), tuple(kept), made), types)
    text = show(rule.statement).strip()
    assert text.startswith("drop ")
    # A key that nobody has seen stays.
    state = {key: torch.ones(4) for key in [*old, "h.0.new", "h.0.a.new", "new"]}
    assert statex.compile(text).apply(state).keys() == {*kept, "h.0.new", "h.0.a.new", "new"}
    words = ("beta", "gate", "out", "rope", "x", "zed", "mu", "nu")
    many = [*old, *(f"h.{n}.{other}.{word}" for n in range(3) for word, other in zip(words, words[::-1], strict=True))]
    types = {key: TensorType(FLOAT32, (4,)) for key in many}
    (rule,) = written(Relations(tuple(many), tuple(kept), made), types)
    assert show(rule.statement).strip().startswith("keep ")


@pytest.mark.parametrize(("before", "note"), [("layers", "3 layers"), ("l", "3 numbers")])
def test_a_renumbering_says_what_it_counts(before: str, note: str) -> None:
    old = [f"{before}.{n}.weight" for n in (0, 5, 9)]
    pairs = {key: f"{before}.{rank}.weight" for rank, key in enumerate(old)}
    made: dict[str, Relation] = {new: MadeTensor(new, (key,), SourceTensor()) for key, new in pairs.items()}
    types = {key: TensorType(FLOAT32, (4,)) for key in old}
    (rule,) = written(Relations(tuple(old), tuple(made), made), types)
    assert (show(rule.statement).startswith("renumber "), rule.notes) == (True, (note,))


def test_pieces_are_not_split_once_more() -> None:
    """A source that is called as a piece of others is cut by a pattern of its own."""
    torch.manual_seed(0)
    old = {f"h.{n}.qkv.weight": torch.randn(12, 6) for n in range(3)} | {"h.3.q.weight": torch.randn(12, 6)}
    new = {}
    for key, tensor in old.items():
        names = [f"{key.rpartition('.')[0].rpartition('.')[0]}.{word}.weight" for word in ("q", "k", "v")]
        new |= dict(zip(names, tensor.chunk(3), strict=True))
    found, made = applied(old, new)
    assert found.proved, found.rules
    assert made.keys() == new.keys()
