"""In memory: what no rule touches is the very same object, and what belongs to a state stays with it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

import statex
from statex import StatexError


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.emb.weight


class WithExtra(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.version: Any = {"version": 3}

    def get_extra_state(self) -> Any:
        return self.version

    def set_extra_state(self, state: Any) -> None:
        self.version = state


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_untouched_tensors_are_the_same_objects() -> None:
    state = nn.Linear(3, 3).state_dict()
    done = statex.compile("set weight = it * 2").apply(state)
    assert done["bias"] is state["bias"]
    assert torch.equal(done["weight"], state["weight"] * 2)
    moved = statex.compile("rename prefix '' -> 'x.'").apply(state)
    assert moved["x.weight"] is state["weight"]


def test_the_state_given_is_not_changed() -> None:
    state = nn.BatchNorm1d(3).state_dict()
    before, metadata = dict(state), copy.deepcopy(state._metadata)  # type: ignore[attr-defined]
    statex.compile("rename prefix '' -> 'x.'\nset x.weight = it * 2\ndrop x.bias").apply(state)
    assert list(state) == list(before)
    assert all(state[k] is v for k, v in before.items())
    assert state._metadata == metadata  # type: ignore[attr-defined]


def test_shared_storage_stays_shared() -> None:
    state = Tied().state_dict()
    done = statex.compile("rename emb.weight -> tokens.weight").apply(state)
    assert storage(done["tokens.weight"]) == storage(done["head.weight"])
    both = statex.compile("set emb.weight, head.weight = it * 2").apply(state)
    assert both["emb.weight"] is both["head.weight"] or storage(both["emb.weight"]) == storage(both["head.weight"])
    assert storage(both["emb.weight"]) != storage(state["emb.weight"])
    tied = statex.compile("copy norm.weight -> again.weight").apply(state)
    assert storage(tied["again.weight"]) == storage(state["norm.weight"])
    own = statex.compile("add again.weight = norm.weight").apply(state)
    assert storage(own["again.weight"]) != storage(state["norm.weight"])


def test_a_tie_that_ends_is_a_warning() -> None:
    plan = statex.compile("set emb.weight = it * 2").plan(Tied().state_dict())
    assert [w.code.id for w in plan.warnings] == ["SX901"]
    assert not statex.compile("set emb.weight, head.weight = it * 2").plan(Tied().state_dict()).warnings


def test_parameters_stay_parameters() -> None:
    model = nn.Linear(3, 3)
    model.bias.requires_grad_(False)
    state = model.state_dict(keep_vars=True)
    done = statex.compile("set weight = it * 2\nrename bias -> b").apply(state)
    assert done["b"] is model.bias
    assert isinstance(done["weight"], nn.Parameter)
    assert done["weight"].requires_grad
    assert done["weight"].is_leaf
    frozen = statex.compile("set bias = it + 1").apply(state)["bias"]
    assert isinstance(frozen, nn.Parameter)
    assert not frozen.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("trained", [True, False])
def test_a_gradient_stays_where_the_dtype_can_have_one(dtype: torch.dtype, trained: bool) -> None:
    state = {"w": nn.Parameter(torch.ones(4, dtype=dtype), requires_grad=trained)}
    for rules, keys in (("set w = it + it", "w"), ("split w -> a, b = chunk(2)", "ab"), ("set w = it[:2]", "w")):
        done = statex.compile(rules).apply(state)
        assert [(key, type(one), one.requires_grad) for key, one in done.items()] == [
            (key, nn.Parameter, trained) for key in keys
        ]
    for rules in ("set w = it == 1", "set w = cast(i64)") if not dtype.is_complex else ("set w = it == 1",):
        one = statex.compile(rules).apply(state)["w"]
        assert (type(one), one.requires_grad) == (nn.Parameter, False)


@pytest.mark.parametrize("first", ["trained", "frozen", "plain", "plain trained"])
@pytest.mark.parametrize("second", ["trained", "frozen", "plain"])
def test_what_is_merged_of_parameters_alone_is_one(first: str, second: str) -> None:
    made = {
        "trained": lambda: nn.Parameter(torch.ones(2)),
        "frozen": lambda: nn.Parameter(torch.ones(2), requires_grad=False),
        "plain": lambda: torch.ones(2),
        "plain trained": lambda: torch.ones(2, requires_grad=True),
    }
    state = {"a": made[first](), "b": made[second]()}
    one = statex.compile("merge a, b -> c = cat").apply(state)["c"]
    assert isinstance(one, nn.Parameter) is not ("plain" in first + second)
    assert one.requires_grad is ("trained" in first + second)
    assert one.is_leaf


def test_on_the_meta_device() -> None:
    with torch.device("meta"):
        state = nn.Linear(3, 4).state_dict()
    done = statex.compile("set weight = transpose | cast(bf16)\nadd new.w = zeros_like(::bias)").apply(state)
    assert (done["weight"].device.type, done["weight"].shape, done["weight"].dtype) == ("meta", (3, 4), torch.bfloat16)
    assert done["bias"] is state["bias"]


def test_what_torch_refuses_is_said() -> None:
    state = {"data": torch.ones(2), "meta": torch.ones(2, device="meta")}
    with pytest.raises(statex.StatexError) as caught:
        statex.compile("set data = exp(it) + ::meta").apply(state)
    (found,) = caught.value.diagnostics
    assert found.code.id == "SX410"
    assert "`add`" in found.headline
    assert "meta tensor" in found.headline
    assert "\n" not in found.headline


def test_extra_state_and_other_values_pass_through() -> None:
    state = WithExtra().state_dict()
    done = statex.compile("rename prefix '' -> 'm.'").apply(state)
    assert done["m._extra_state"] is state["_extra_state"]
    assert list(done) == [f"m.{key}" for key in state]
    kept = statex.compile("drop? nothing.here").apply({"w": torch.ones(1), "note": "text", "n": 3})
    assert (kept["note"], kept["n"]) == ("text", 3)


def test_sparse_and_quantized_tensors_are_moved_and_not_computed_with() -> None:
    sparse = torch.eye(3).to_sparse()
    state = {"a.w": sparse, "b.w": torch.ones(2)}
    assert statex.compile("rename a.w -> c.w").apply(state)["c.w"] is sparse
    with pytest.raises(StatexError) as caught:
        statex.compile("set a.w = it * 2").apply(state)
    assert caught.value.diagnostics[0].code.exit == 1


def test_results_are_compact() -> None:
    big = torch.arange(100.0)
    done = statex.compile("set a.w = it[:3]\nset b.w = transpose").apply({"a.w": big, "b.w": torch.ones(2, 3)})
    assert done["a.w"].untyped_storage().nbytes() == 12
    assert done["b.w"].is_contiguous()


class TestMetadata:
    def metadata(self, rules: str, module: nn.Module) -> dict[str, Any]:
        done = statex.compile(rules).apply(module.state_dict())
        return dict(done._metadata)

    def test_unchanged_where_nothing_is_renamed(self) -> None:
        module = nn.Sequential(OrderedDict(a=nn.BatchNorm1d(3), b=nn.Sequential(nn.Linear(3, 3), nn.ReLU())))
        expected = dict(module.state_dict()._metadata)  # type: ignore[attr-defined]
        assert self.metadata("set a.weight = it * 2\ndrop b.0.bias", module) == expected

    @pytest.mark.parametrize("prefix", ["x.", "x.y."])
    def test_as_torch_names_a_prefix(self, prefix: str) -> None:
        module = nn.Sequential(OrderedDict(a=nn.BatchNorm1d(3), b=nn.Linear(3, 3)))
        expected = dict(module.state_dict(prefix=prefix)._metadata)  # type: ignore[attr-defined]
        got = self.metadata(f"rename prefix '' -> '{prefix}'", module)
        assert got == {"": {"version": 1}, **expected}

    def test_a_prefix_is_taken_off(self) -> None:
        module = nn.Sequential(OrderedDict(a=nn.BatchNorm1d(3), b=nn.Linear(3, 3)))
        wrapped = nn.ModuleDict({"module": module})
        assert self.metadata("rename prefix 'module.' -> ''", wrapped) == dict(
            module.state_dict()._metadata  # type: ignore[attr-defined]
        )

    def test_it_follows_modules(self) -> None:
        module = nn.ModuleDict({"a": nn.BatchNorm1d(3), "b": nn.BatchNorm1d(3)})
        got = self.metadata("rename part a -> x\ndrop b.**", module)
        assert got["x"] == {"version": 2}
        assert "a" not in got

    @pytest.mark.parametrize(
        ("rules", "wanted"),
        [
            ("drop a.**", {"b": ""}),
            ("keep b.**", {"b": ""}),
            ("drop a.lin.*\ndrop a.norm.*", {"b": ""}),
            ("set b.lin.weight = it + a.lin.weight\ndrop a.**", {"b": ""}),
            ("drop b.**\nrename part a -> x", {"x": ""}),
            ("drop a.lin.*", {"a": "lin", "b": ""}),
            ("drop b.norm.*\nrename part a -> x", {"x": "", "b": "norm"}),
            ("merge a.norm.{p:weight|bias} over p -> b.lin.more = cat\ndrop a.**", {"b": ""}),
            ("rename a.lin.weight -> b.norm.scale\ndrop a.**", {"b": ""}),
            ("rename a.norm.weight -> b.lin.scale\ndrop a.**", {"b": ""}),
        ],
    )
    def test_without_a_module_it_is_what_torch_notes_without_it(self, rules: str, wanted: dict[str, str]) -> None:
        def block(without: str) -> nn.Module:
            made = OrderedDict(lin=nn.Linear(2, 2), act=nn.ReLU(), norm=nn.BatchNorm1d(2), out=nn.Sequential(nn.ReLU()))
            return nn.Sequential(OrderedDict((name, module) for name, module in made.items() if name != without))

        left = nn.Sequential(OrderedDict((name, block(without)) for name, without in wanted.items()))
        noted = left.state_dict()._metadata  # type: ignore[attr-defined]
        assert self.metadata(rules, nn.Sequential(OrderedDict(a=block(""), b=block("")))) == dict(noted)


def test_module_and_state_as_target() -> None:
    state = nn.Linear(2, 3).state_dict()
    module = nn.ModuleDict({"m": nn.Linear(2, 3)})
    before = {k: v.clone() for k, v in module.state_dict().items()}
    statex.compile("rename prefix '' -> 'm.'").apply(state, target=module)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    with pytest.raises(StatexError) as caught:
        statex.compile("").apply(state, target=module)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX501"]
    statex.compile("rename prefix '' -> 'm.'").apply(state, like=module.state_dict())


def test_what_load_state_dict_itself_refuses() -> None:
    class Picky(nn.Linear):
        def _load_from_state_dict(self, *args: Any) -> None:
            args[6].append("picky: not these numbers")
            super()._load_from_state_dict(*args)

    with pytest.raises(StatexError) as caught:
        statex.verify(nn.Linear(2, 2).state_dict(), Picky(2, 2))
    found = caught.value.diagnostics[0]
    assert found.code.id == "SX504"
    assert any("picky" in text for text in [found.headline, *(n.text for n in found.notes)])


def test_allow_forgives_what_it_names() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = nn.Linear(2, 2)

    state = {**nn.ModuleDict({"a": nn.Linear(2, 2)}).state_dict(), "old.step": torch.ones(1)}
    with pytest.raises(StatexError):
        statex.compile("allow missing b.**").apply(state, target=Wide())
    done = statex.compile("allow missing b.**\nallow unexpected old.*").apply(state, target=Wide())
    assert list(done) == ["a.weight", "a.bias", "old.step"]


def test_further_inputs_and_keyword_parameters() -> None:
    a, b = {"w.x": torch.ones(2)}, {"w.x": torch.full((2,), 3.0)}
    rules = statex.compile("param s: float = 1\ninput ft\nset w.x = (it + ft::w.x) * s")
    assert rules.parameters == ("s",)
    assert torch.equal(rules.apply(a, inputs={"ft": b}, s=0.5)["w.x"], torch.full((2,), 2.0))
    with pytest.raises(StatexError) as caught:
        rules.apply(a, inputs={"ft": b}, z=1)
    assert caught.value.diagnostics[0].code.id == "SX205"


def test_gradients_do_not_flow_into_results() -> None:
    model = nn.Linear(2, 2)
    done = statex.compile("set weight = it * 2").apply(model.state_dict(keep_vars=True))
    assert done["weight"].grad_fn is None


def test_numbers_that_python_holds_for_equal_are_told_apart() -> None:
    state = {"a": torch.tensor([1.0])}
    done = statex.compile("add b = ::a * 0.0\nadd c = ::a * -0.0\nadd d = full([1], -0.0)\nadd e = zeros([1])").apply(
        state
    )
    assert [str(done[key].item()) for key in "bcde"] == ["0.0", "-0.0", "-0.0", "0.0"]


@pytest.mark.parametrize("value", ["it // ::b", "it % ::b", "7 // ::b", "7 % ::b"])
def test_a_division_by_a_zero_no_header_tells_of(value: str) -> None:
    state = {"a": torch.tensor([1, 2]), "b": torch.tensor([3, 0])}
    with pytest.raises(StatexError) as caught:
        statex.compile(f"set a = {value}").apply(state)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX406"]
    fine = statex.compile(f"set a = {value}").apply({key: t.to("meta") for key, t in state.items()})
    assert fine["a"].shape == (2,)
    floats = statex.compile(f"set a = {value}").apply({key: t.float() for key, t in state.items()})
    assert floats["a"].dtype == torch.float32


@pytest.mark.parametrize(("dtype", "power"), [("f16", "70000"), ("bf16", "1e39")])
def test_a_power_the_dtype_cannot_hold(dtype: str, power: str) -> None:
    rules = statex.compile(f"set a = cast({dtype}) | pow({power})")
    with pytest.raises(StatexError) as caught:
        rules.plan({"a": torch.ones(2)})
    assert [d.code.id for d in caught.value.diagnostics] == ["SX406"]


def test_a_step_as_large_as_ints_go() -> None:
    done = statex.compile("set a = it[1::9223372036854775807]").apply({"a": torch.arange(4)})
    assert done["a"].tolist() == [1]


def test_conjugates_and_negatives_are_no_ties() -> None:
    x = torch.tensor([1 + 2j])
    done = statex.compile("set a, b = it * 2").apply({"a": x, "b": x.conj()})
    assert done["a"].tolist() == [2 + 4j]
    assert done["b"].tolist() == [2 - 4j]
    negative = x.conj().imag
    assert negative.is_neg()
    done = statex.compile("set a, b = it * 2").apply({"a": torch.view_as_real(x)[..., 1], "b": negative})
    assert done["a"].tolist() == [4]
    assert done["b"].tolist() == [-4]


def test_a_module_put_beside_the_one_around_it_says_nothing_of_that() -> None:
    block = nn.Sequential(
        OrderedDict(body=nn.Sequential(nn.Linear(2, 2), nn.ReLU()), act=nn.ReLU(), out=nn.Linear(2, 2))
    )
    state = nn.Sequential(block).state_dict()
    for rules in ("rename part body.0 -> fc", "rename text 'body.0' -> 'body_0'"):
        done = statex.compile(rules).apply(state)
        known = set(state._metadata) | {"0.fc", "0.body_0"}  # type: ignore[attr-defined]
        assert set(done._metadata) <= known
        assert "0.act" in done._metadata


def test_loading_the_result_leaves_the_metadata_of_the_state_alone() -> None:
    state = nn.Linear(2, 2).state_dict()
    before = copy.deepcopy(state._metadata)  # type: ignore[attr-defined]
    nn.Linear(2, 2).load_state_dict(statex.compile("").apply(state), assign=True)
    assert state._metadata == before  # type: ignore[attr-defined]
