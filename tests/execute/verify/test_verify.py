"""Verification: what is given is not changed, and every module can be a target."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

import statex
from statex import StatexError

State = dict[str, torch.Tensor]


def refusal(state: object, target: object) -> str:
    with pytest.raises(StatexError) as caught:
        statex.verify(state, target)  # type: ignore[arg-type]
    return str(caught.value)


@pytest.mark.parametrize("trained", [True, False])
def test_live_parameters_keep_what_they_require(trained: bool) -> None:
    model = nn.Linear(2, 2).requires_grad_(trained)
    state = model.state_dict(keep_vars=True)
    target = nn.Linear(2, 2).requires_grad_(not trained)
    statex.verify(state, target)
    assert statex.compile("").apply(state, target=target)["weight"] is model.weight
    assert model.weight.requires_grad is trained
    assert model.bias.requires_grad is trained


def test_a_module_that_keeps_what_it_computes_of_its_parameters() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.norms = self.linear.weight.norm(dim=1)

    model = Caching()
    assert statex.verify(model.state_dict(), model).agreeing == 2
    assert model.norms.requires_grad


def test_a_module_that_cannot_be_copied() -> None:
    model = nn.Linear(2, 2)
    model.lock = threading.Lock()  # type: ignore[assignment]
    message = refusal(model.state_dict(), model)
    assert message.startswith("error[SX503]: the module Linear cannot be copied without its data: TypeError: ")


@pytest.mark.parametrize(
    ("target", "said"), [(nn.ReLU, "the class ReLU"), (5, "of type int"), (lambda: nn.ReLU(), "of type function")]
)
def test_a_target_that_is_no_module(target: object, said: str) -> None:
    assert f"SX503]: a target is a module, and this is {said}\n" in refusal({"a": torch.ones(1)}, target)


def test_lazy_parameters() -> None:
    lazy = nn.LazyLinear(3)
    for state in (lazy.state_dict(), lazy.state_dict(keep_vars=True)):
        moved = statex.compile("rename weight -> w").apply(state)
        assert moved["w"] is state["weight"]
    assert statex.verify(nn.Linear(2, 3).state_dict(), lazy).agreeing == 2
    assert isinstance(lazy.weight, nn.UninitializedParameter)


def test_a_callable_that_needs_arguments() -> None:
    message = refusal({"a": torch.ones(1)}, "torch.nn:Linear")
    assert "missing 2 required positional arguments" in message
    assert "raised in" not in message


def test_torch_s_own_words_are_readable() -> None:
    class Odd(nn.Module):
        def state_dict(self, *args: object, **kwargs: object) -> dict[str, torch.Tensor]:  # type: ignore[override]
            return {"more": torch.ones(1)}

    message = refusal({"more": torch.ones(1)}, Odd())
    assert 'Unexpected key(s) in state_dict: "more"' in message
    assert "\\x09" not in message


class TestMends:
    """What `help` says is pasted, and has to help."""

    def pasted(self, state: State, target: State) -> tuple[list[str], str]:
        """Return the lines of help, and what is said after they were carried out."""
        with pytest.raises(StatexError) as caught:
            statex.verify(state, target)
        lines = [note.text for note in caught.value.diagnostics[0].notes if note.kind == "help"]
        try:
            statex.compile("\n".join(lines)).apply(state, like=target)
        except StatexError as error:
            return lines, str(error).splitlines()[0]
        return lines, "fits"

    def layers(self, *names: str, count: int = 30) -> State:
        return {f"layers.{i}.{name}.weight": torch.ones(2) for i in range(count) for name in names}

    def test_a_prefix_that_other_keys_have_too_is_kept(self) -> None:
        z = torch.zeros(2)
        lines, after = self.pasted({"a": z, "b.w": z, "c.w": z}, {"a": z, "x.b.w": z, "x.c.w": z})
        assert lines == ["rename b.w -> x.b.w", "rename c.w -> x.c.w"]
        assert after == "fits"

    def test_of_unlike_names_only_the_last_two_are_taken_for_one_another(self) -> None:
        one, two = torch.zeros(3, 5), torch.zeros(7)
        assert self.pasted({"wq": one, "c": two}, {"embedding": one, "c": two})[0] == ["rename wq -> embedding"]
        lines, _ = self.pasted({"wq": one, "c": two}, {"embedding": one, "head": one, "c": two})
        assert not any("rename" in line for line in lines)

    def test_a_prefix_of_most(self) -> None:
        wanted = self.layers(*"qkvo")
        state = {f"module.{key}": value for key, value in wanted.items()} | {"rope.freqs": torch.ones(4)}
        lines, after = self.pasted(state, wanted)
        assert lines == ["rename prefix 'module.' -> ''"]
        assert "1 unexpected (120 of 120 keys agree)" in after

    def test_a_prefix_that_would_make_two_keys_one(self) -> None:
        z = torch.zeros(2)
        lines, after = self.pasted({"m.a": z, "m.b": z, "m.c": z, "c": z}, {"a": z, "b": z, "c": z})
        assert lines == ["rename m.a -> a", "rename m.b -> b"]
        assert "1 unexpected" in after

    def test_numbered_modules_are_one_line(self) -> None:
        state, wanted = self.layers("q", "norm"), self.layers("query", "norm")
        lines, after = self.pasted(state, wanted)
        assert lines == ["rename layers.{i}.q.weight -> layers.{i}.query.weight"]
        assert after == "fits"

    def test_a_number_that_all_have_in_common_is_written(self) -> None:
        state = {f"0.{i}.q.w": torch.ones(2) for i in range(3)} | {f"1.{i}.q.w": torch.ones(2) for i in range(3)}
        wanted = {key.replace("q.w", "query.w") if key[0] == "0" else key: value for key, value in state.items()}
        lines, after = self.pasted(state, wanted)
        assert lines == ["rename 0.{i}.q.w -> 0.{i}.query.w"]
        assert after == "fits"

    def test_a_pattern_never_takes_a_key_that_agrees(self) -> None:
        state = self.layers("q", count=4)
        wanted = {key.replace("q", "query") if key[7] in "01" else key: value for key, value in state.items()}
        lines, after = self.pasted(state, wanted)
        assert lines == [f"rename layers.{i}.q.weight -> layers.{i}.query.weight" for i in (0, 1)]
        assert after == "fits"

    def test_casts_and_transposes_of_families(self) -> None:
        state = self.layers("a") | {"b": torch.ones(2), "steps": torch.ones(2, dtype=torch.int64)}
        lines, after = self.pasted(state, {k: v.half() if v.is_floating_point() else v for k, v in state.items()})
        assert lines == ["set ** = cast(f16) where is_floating_point(it)"]
        lines, after = self.pasted(state, {k: v.half() if k.endswith("weight") else v for k, v in state.items()})
        assert lines == ["set layers.{i}.a.weight = cast(f16)"]
        assert after == "fits"
        matrices = {f"{i}.w": torch.ones(2, 3) for i in range(5)}
        lines, after = self.pasted(matrices, {k: v.T for k, v in matrices.items()})
        assert lines == ["set {i}.w = transpose"]
        assert after == "fits"

    def test_keys_that_need_quotes(self) -> None:
        z = torch.zeros(2)
        lines, after = self.pasted({"odd key.q'": z, "b": z}, {"odd key.quer'": z, "b": z})
        assert lines == ["rename 'odd key.q\\'' -> 'odd key.quer\\''"]
        assert after == "fits"
