"""What further inputs have: adapters merged by peft, means, parts taken over; and programs that are gone on with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from statex import StatexError
from tests.inferring.models import State, model, random, randomised
from tests.inferring.test_corpus import equal


def holds(found: statex.Inferred, old: State, new: State, inputs: dict[str, State]) -> bool:
    """Say whether rules are proved, and make the new state by what `apply` says, too."""
    assert found.proved, (found.rules, found.errors, found.unexplained)
    read = {name: one for name, one in inputs.items() if f"input {name}\n" in found.rules}
    return equal(statex.compile(found.rules).apply(old, inputs=read), new)


def adapted(name: str, seed: int, **options: Any) -> tuple[State, State, State]:
    """Return the state of a model, an adapter for it with numbers in both factors, and both merged by peft."""
    import peft

    base = random(name)()
    module = copy.deepcopy(model(name))
    module.load_state_dict(base)
    whole = peft.get_peft_model(module, peft.LoraConfig(**options))  # type: ignore[arg-type]
    torch.manual_seed(seed)
    for key, parameter in whole.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter)
    adapter = {key: one.clone() for key, one in peft.get_peft_model_state_dict(whole).items()}
    return base, adapter, whole.merge_and_unload().state_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "modules", "alpha"),
    [("Llama", ["q_proj", "v_proj", "down_proj"], 6), ("OPT", ["q_proj", "fc1"], 4), ("Bert", ["query", "value"], 32)],
)
def test_an_adapter_merged_by_peft(name: str, modules: list[str], alpha: int) -> None:
    base, adapter, merged = adapted(name, 1, r=4, lora_alpha=alpha, target_modules=modules)
    found = statex.infer(base, merged, inputs={"lora": adapter})
    assert holds(found, base, merged, {"lora": adapter})
    assert found.rules.startswith("input lora\n")
    assert found.rules.count("set ") == 1, found.rules
    assert "@" in found.rules
    # The rules are for any adapter of the kind.
    _, other, again = adapted(name, 2, r=4, lora_alpha=alpha, target_modules=modules)
    assert equal(statex.compile(found.rules).apply(base, inputs={"lora": other}), again)


@pytest.mark.filterwarnings("ignore")
def test_another_adapter_is_not_taken_for_it() -> None:
    base, _, merged = adapted("OPT", 1, r=4, lora_alpha=4, target_modules=["q_proj"])
    _, other, _ = adapted("OPT", 2, r=4, lora_alpha=4, target_modules=["q_proj"])
    found = statex.infer(base, merged, inputs={"lora": other})
    assert not found.proved
    assert len(found.unexplained) == 4


MEANS = {
    "(it + ft::{key}) / 2": lambda a, b: (a + b) / 2,
    "it + (ft::{key} - it) * 0.3": lambda a, b: a + (b - a) * 0.3,
    "it * 0.75 + ft::{key} * 0.25": lambda a, b: a * 0.75 + b * 0.25,
}


@pytest.mark.parametrize("written", MEANS)
def test_means_of_two(written: str) -> None:
    old = random("OPT")()
    other = randomised(old, 1)
    new = {key: MEANS[written](tensor, other[key]) for key, tensor in old.items()}
    found = statex.infer(old, new, inputs={"ft": other})
    assert holds(found, old, new, {"ft": other})
    assert written in found.rules
    renamed = {f"x.{key}": tensor for key, tensor in new.items()}
    assert holds(statex.infer(old, renamed, inputs={"ft": other}), old, renamed, {"ft": other})


def test_a_mean_of_three_and_parts_taken_over() -> None:
    old = random("ViT")()
    inputs = {"b": randomised(old, 1), "c": randomised(old, 2)}
    new = {key: (tensor + inputs["b"][key] + inputs["c"][key]) / 3 for key, tensor in old.items()}
    assert holds(statex.infer(old, new, inputs=inputs), old, new, inputs)
    mixed = {
        key if "layers" not in key else f"vit.{key}": tensor if "layers" not in key else inputs["c"][key]
        for key, tensor in old.items()
    }
    found = statex.infer(old, mixed, inputs=inputs)
    assert holds(found, old, mixed, inputs)
    assert "input b" not in found.rules  # of which nothing is taken


def test_a_bit_that_differs_is_no_mean() -> None:
    old = {"a.weight": torch.randn(8, 8), "b.weight": torch.randn(8, 8)}
    other = {key: torch.randn(8, 8) for key in old}
    new = {key: (tensor + other[key]) / 2 for key, tensor in old.items()}
    new["b.weight"].view(torch.int32)[0, 0] ^= 1
    found = statex.infer(old, new, inputs={"ft": other})
    assert (found.proved, list(found.unexplained)) == (False, ["b.weight"])


# --- from a program ----------------------------------------------------------------------------------------------


def test_a_program_is_gone_on_with() -> None:
    old = random("ViT")()
    new = {f"vit.{key}".replace("q_proj", "query"): tensor for key, tensor in old.items()}
    begun = "rename prefix '' -> 'vit.'  # the backbone\n"
    found = statex.infer(old, new, start=begun)
    assert holds(found, old, new, {})
    assert found.rules == f"{begun}\nrename {{m:**}}.q_proj.{{t}} -> {{m}}.query.{{t}}  # 8 keys\n"


def test_a_program_that_does_all_stays_as_it_is() -> None:
    old = random("ViT")()
    whole = "rename prefix '' -> 'vit.'\n# and this\nset **.fc1.weight = transpose\n"
    found = statex.infer(old, statex.compile(whole).apply(old), start=whole)
    assert (found.proved, found.rules) == (True, whole)


def test_what_a_program_computes_is_where_the_rest_begins(tmp_path: Path) -> None:
    old = random("OPT")()
    (tmp_path / "inner.sx").write_text("set **.fc1.weight = it * 2\n")
    (tmp_path / "outer.sx").write_text("include 'inner.sx'\n")
    begun = statex.load(tmp_path / "outer.sx")
    new = {f"m.{key}": tensor for key, tensor in begun.apply(old).items()}
    found = statex.infer(old, new, start=begun)
    assert found.proved, found.errors
    assert found.rules.startswith("include 'inner.sx'\n\nrename prefix '' -> 'm.'")


def test_what_goes_wrong_in_the_program() -> None:
    old = {"a.weight": torch.randn(3)}
    with pytest.raises(StatexError) as caught:
        statex.infer(old, old, start="rename b -> c")
    assert caught.value.diagnostics[0].code.id == "SX301"
    with pytest.raises(TypeError):
        statex.infer(old, old, start=statex.compile(["drop? x", "drop? y"]))
    with pytest.raises(TypeError):
        statex.infer(old, like=old, inputs={"x": old})
