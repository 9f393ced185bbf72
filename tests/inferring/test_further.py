"""What further inputs have: adapters merged by peft, means, parts taken over; and programs that are gone on with."""

from __future__ import annotations

import copy
import re
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


# --- in another layout -------------------------------------------------------------------------------------------


def grafted(names: tuple[str, ...], made: str) -> tuple[State, State, State]:
    """Return a model, another one, and the first with some modules of the other: what `made` makes of its state."""
    old, other = random("ViT")(), randomised(random("ViT")(), 5)
    part = {key: tensor for key, tensor in other.items() if any(name in key for name in names)}
    rest = {key: tensor for key, tensor in old.items() if key not in part}
    return rest, part, rest | statex.compile(made).apply(part)


@pytest.mark.parametrize(
    ("made", "written"),
    [
        ("set **.weight = transpose", "= transpose  # 8 keys"),
        ("set ** = cast(f16)", "cast(f16)"),
        (
            "split {m:**}.fc1.{t} -> {m}.{p:gate|up}.{t} = chunk(2)",
            "split {m:**}.fc1.{t} -> {m}.{p:gate|up}.{t} = chunk(2)",
        ),
        ("merge layers.{e:int}.mlp.{x:**} over e -> all.{x} = stack", "over e"),
    ],
)
def test_parts_of_an_input_in_another_layout(made: str, written: str) -> None:
    old, part, new = grafted(("fc1", "fc2"), made)
    found = statex.infer(old, new, inputs={"mlp": part})
    assert holds(found, old, new, {"mlp": part})
    assert "copy mlp::" in found.rules
    assert written in re.sub(" +#", "  #", found.rules), found.rules
    assert "only seen here" not in found.rules


def test_parts_in_the_place_of_others() -> None:
    old, other = random("ViT")(), randomised(random("ViT")(), 5)
    new = {key: other[key].T.contiguous() if key.endswith("fc1.weight") else tensor for key, tensor in old.items()}
    found = statex.infer(old, new, inputs={"ft": other})
    assert holds(found, old, new, {"ft": other})
    assert len(found.rules.splitlines()) <= 6, found.rules


def test_a_part_with_another_bit_is_not_taken() -> None:
    old, part, new = grafted(("fc1", "fc2"), "set **.weight = transpose")
    key = "layers.1.mlp.fc1.weight"
    new[key] = new[key].clone()
    new[key].view(torch.int32)[1, 1] ^= 1
    found = statex.infer(old, new, inputs={"mlp": part})
    assert (found.proved, list(found.unexplained)) == (False, [key])


# --- adapters in other forms -------------------------------------------------------------------------------------


def merged_by_peft(base: State, name: str, dtype: torch.dtype, **options: Any) -> tuple[State, State]:
    """Return an adapter of a dtype, and what peft makes of a base with it."""
    import peft

    module = copy.deepcopy(model(name)).to(next(iter(base.values())).dtype)
    module.load_state_dict(base)
    whole = peft.get_peft_model(module, peft.LoraConfig(**options), autocast_adapter_dtype=False)  # type: ignore[arg-type]
    torch.manual_seed(1)
    for key, parameter in whole.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter)
            parameter.data = parameter.data.to(dtype)
    adapter = {key: one.clone() for key, one in peft.get_peft_model_state_dict(whole).items()}
    return adapter, whole.merge_and_unload().state_dict()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("base_dtype", "dtype"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.bfloat16),
    ],
)
def test_an_adapter_of_another_dtype(base_dtype: torch.dtype, dtype: torch.dtype) -> None:
    base = {key: tensor.to(base_dtype) for key, tensor in random("OPT")().items()}
    adapter, merged = merged_by_peft(base, "OPT", dtype, r=4, lora_alpha=6, target_modules=["q_proj", "fc2"])
    found = statex.infer(base, merged, inputs={"lora": adapter})
    assert holds(found, base, merged, {"lora": adapter})
    assert found.rules.count("set ") == 1, found.rules
    assert "* 1.5" in found.rules
    key = "model.decoder.layers.1.fc2.weight"
    wrong = dict(merged)
    wrong[key] = merged[key] * 1.01
    assert list(statex.infer(base, wrong, inputs={"lora": adapter}).unexplained) == [key]


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_weights_that_stand_transposed_and_of_a_tied_embedding() -> None:
    base = random("GPT2")()
    options = {"r": 3, "lora_alpha": 4, "fan_in_fan_out": True}
    adapter, merged = merged_by_peft(base, "GPT2", torch.float32, target_modules=["c_attn"], **options)
    found = statex.infer(base, merged, inputs={"lora": adapter})
    assert holds(found, base, merged, {"lora": adapter})
    assert "transpose(" in found.rules
    adapter, merged = merged_by_peft(base, "GPT2", torch.float32, r=2, lora_alpha=2, target_modules=["wte"])
    found = statex.infer(base, merged, inputs={"lora": adapter})
    assert holds(found, base, merged, {"lora": adapter})
    assert "set transformer.wte.weight, lm_head.weight = it + transpose(" in found.rules
    assert found.proof is not None
    assert found.proof.also["ties"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rooted", [False, True])
def test_the_scale_is_what_the_configuration_of_the_adapter_says(rooted: bool, tmp_path: Path) -> None:
    import peft

    base = random("OPT")()
    module = copy.deepcopy(model("OPT"))
    module.load_state_dict(base)
    config = peft.LoraConfig(r=3, lora_alpha=4, target_modules=["q_proj"], use_rslora=rooted, init_lora_weights=False)
    whole = peft.get_peft_model(module, config)  # type: ignore[arg-type]
    whole.save_pretrained(tmp_path / "adapter")
    torch.save(base, tmp_path / "base.pth")
    torch.save(whole.merge_and_unload().state_dict(), tmp_path / "merged.pth")
    found = statex.infer(tmp_path / "base.pth", tmp_path / "merged.pth", inputs={"lora": tmp_path / "adapter"})
    assert found.proved, (found.rules, found.errors)
    assert found.rules.startswith("param lora_alpha: float = 4  # adapter_config.json\ninput lora\n")
    size = "size(lora::base_model.model.{m}.lora_A.weight, 0)"
    assert (f"lora_alpha / sqrt({size})" if rooted else f"lora_alpha / {size}") in found.rules
    # Without the file it is a number, and with another one in it, too.
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"lora_alpha": 5}')
    found = statex.infer(tmp_path / "base.pth", tmp_path / "merged.pth", inputs={"lora": tmp_path / "adapter"})
    assert (found.proved, "lora_alpha" in found.rules) == (True, False)


def test_updates_that_change_nothing_belong_to_the_others() -> None:
    torch.manual_seed(0)
    old = {f"layers.{i}.fc.weight": torch.randn(6, 5) for i in range(4)}
    lora: State = {}
    for i in range(4):
        lora[f"layers.{i}.fc.lora_A.weight"] = torch.randn(2, 5)
        lora[f"layers.{i}.fc.lora_B.weight"] = torch.randn(6, 2)
    lora["layers.2.fc.lora_B.weight"].zero_()
    new = {}
    for key, tensor in old.items():
        b, a = (lora[key.replace("weight", f"lora_{p}.weight")] for p in "BA")
        new[key] = tensor + b @ a * 0.5
    found = statex.infer(old, new, inputs={"lora": lora})
    assert holds(found, old, new, {"lora": lora})
    assert "# 4 keys" in found.rules
