"""What is guessed from names, shapes and dtypes: how often it is right, and that it is never called proved."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch

import statex
from statex import StatexError
from tests.inferring.corpus import CASES, TO_META, Case
from tests.inferring.models import model, random
from tests.inferring.test_corpus import same_bits

GUESSABLE = [case for case in CASES if not case.name.endswith("initial")]


def right(case: Case) -> tuple[int, int, statex.Inferred]:
    """Return how many new tensors are what was guessed, and how many there are."""
    old, new = case.pair()
    found = statex.infer(old, like=new)
    made = statex.compile(found.rules).apply(old)
    return sum(key in made and same_bits(made[key], value) for key, value in new.items()), len(new), found


def test_most_keys_of_the_corpus_are_guessed() -> None:
    counts = []
    for case in GUESSABLE:
        good, total, found = right(case)
        counts.append((good, total))
        assert not found.proved, case.name
        assert found.proof is None
        assert set(found.guesses) | set(found.unexplained) == set(case.pair()[1]), case.name
        notes = re.findall("#.*", found.rules)
        assert all(note.startswith("# guess: ") for note in notes), found.rules
        assert len(notes) >= len(statex.compile(found.rules).statements)
    assert len(counts) == 71
    assert sum(good for good, _ in counts) >= 0.85 * sum(total for _, total in counts)
    assert sum(good == total for good, total in counts) >= 36


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("Llama", TO_META),
        ("OPT", "rename prefix 'model.decoder.' -> 'gpt.'\nrename part self_attn -> attn"),
        ("ViT", "merge {m:**}.{p:q|k|v}_proj.{t} over p -> {m}.qkv.{t} = cat(dim=0)"),
        ("Bert", "rename prefix 'bert.' -> ''\nset ** = cast(bf16) where is_floating_point(it)"),
    ],
)  # fmt: skip
def test_a_module_of_transformers_gets_its_weights_back(name: str, rules: str) -> None:
    module = model(name)
    theirs = random(name)()
    ours = statex.compile(rules).apply(theirs)
    found = statex.infer(ours, target=module)
    assert (found.proved, found.fits, found.unexplained) == (False, True, {}), found.rules
    made = statex.compile(found.rules).apply(ours)
    torch.nn.Module.load_state_dict(_empty(module), made, strict=True, assign=True)
    wrong = [
        key for key, value in theirs.items() if not torch.equal(made[key].to(torch.bfloat16), value.to(torch.bfloat16))
    ]
    assert wrong == []


def _empty(module: torch.nn.Module) -> torch.nn.Module:
    with torch.device("meta"):
        return type(module)(module.config)  # type: ignore[call-arg, arg-type]


def small(order: Mapping[str, int]) -> dict[str, torch.Tensor]:
    return {key: torch.randn(width, 4) for key, width in order.items()}


def test_names_that_are_the_same_stay() -> None:
    old = {"a.weight": torch.randn(4, 4), "b.weight": torch.randn(4, 4)}
    found = statex.infer(old, like={"b.weight": torch.empty(4, 4), "a.weight": torch.empty(4, 4)})
    assert (found.rules, found.fits) == ("", True)
    assert set(found.guesses.values()) == {"the same name"}


def test_what_does_not_fit_is_said() -> None:
    found = statex.infer(small({"fc.weight": 3}), like=small({"head.weight": 5, "fc2.weight": 3}))
    assert not found.fits
    assert found.misfit == "1 missing"
    assert found.unexplained == {"head.weight": "fc.weight"}


def test_experts_and_pieces() -> None:
    old = {f"layers.{i}.experts.{e}.w1.weight": torch.randn(6, 4) for i in range(2) for e in range(3)}
    new = {f"layers.{i}.experts.w1.weight": torch.empty(3, 6, 4) for i in range(2)}
    found = statex.infer(old, like=new)
    assert found.fits, found.rules
    made = statex.compile(found.rules).apply(old)
    assert torch.equal(made["layers.1.experts.w1.weight"][2], old["layers.1.experts.2.w1.weight"])
    back = statex.infer(made, like=old)
    assert back.fits, back.rules
    assert all(torch.equal(value, old[key]) for key, value in statex.compile(back.rules).apply(made).items())


@pytest.mark.parametrize("turned", [False, True])
def test_experts_whose_gate_and_up_are_one(turned: bool) -> None:
    old = {
        f"layers.{i}.moe.experts.{e}.{w}.weight": torch.randn(shape)
        for i in range(3) for e in range(4) for w, shape in (("w1", (6, 4)), ("w3", (6, 4)), ("w2", (4, 6)))
    }  # fmt: skip
    shape = (4, 4, 12) if turned else (4, 12, 4)
    new = {f"layers.{i}.mlp.experts.gate_up_proj": torch.empty(shape) for i in range(3)}
    new |= {f"layers.{i}.mlp.experts.down_proj": torch.empty(4, 4, 6) for i in range(3)}
    found = statex.infer(old, like=new)
    assert found.fits, found.rules
    assert len(found.rules.splitlines()) <= 4, found.rules
    made = statex.compile(found.rules).apply(old)["layers.2.mlp.experts.gate_up_proj"][3]
    gate, up = (old[f"layers.2.moe.experts.3.{w}.weight"] for w in ("w1", "w3"))
    assert torch.equal(made.T if turned else made, torch.cat([gate, up]))


@pytest.mark.parametrize("rows", [80, 104])
def test_vocabularies_of_other_sizes(rows: int) -> None:
    theirs = random("Bert")()
    model = {
        key: torch.empty(rows, *tensor.shape[1:]) if tensor.shape[:1] == (96,) else tensor
        for key, tensor in theirs.items()
    }
    found = statex.infer(theirs, like=model)
    assert (found.fits, found.proved) == (True, False), found.rules
    assert "rows" in str(set(found.guesses.values()))
    made = statex.compile(found.rules).apply(theirs)["bert.embeddings.word_embeddings.weight"]
    least = min(rows, 96)
    assert torch.equal(made[:least], theirs["bert.embeddings.word_embeddings.weight"][:least])
    assert not made[least:].any()


def test_other_rows_of_other_tensors_are_no_vocabulary() -> None:
    old = {"model.embed_positions.weight": torch.randn(8, 4), "fc.weight": torch.randn(6, 4)}
    found = statex.infer(old, like={"model.embed_positions.weight": torch.empty(9, 4), "fc.weight": torch.empty(7, 4)})
    assert (found.fits, set(found.unexplained)) == (False, set(old))


def test_ties_of_a_model() -> None:
    module = torch.nn.ModuleDict({"embed": torch.nn.Embedding(7, 4), "head": torch.nn.Linear(4, 7, bias=False)})
    module["head"].weight = module["embed"].weight
    old = {"wte.weight": torch.randn(7, 4)}
    found = statex.infer(old, target=module)
    assert found.fits, found.rules
    made = statex.compile(found.rules).apply(old)
    assert made["head.weight"].data_ptr() == made["embed.weight"].data_ptr()


def test_what_is_given_for_a_new_checkpoint() -> None:
    old = small({"fc.weight": 3})
    for given in ({}, {"new": old, "like": old}, {"target": "models:build", "like": old}):
        with pytest.raises(TypeError):
            statex.infer(old, **given)
    with pytest.raises(StatexError) as caught:
        statex.infer(old, target="no_such_module:build")
    assert caught.value.diagnostics[0].code.id == "SX502"


def test_many_keys_take_few_seconds() -> None:
    import time

    names = ("attn.q", "attn.k", "attn.v", "attn.out", "mlp.up", "mlp.down", "norm1", "norm2")
    words = {"attn.out": "self_attn.o_proj", "mlp.up": "fc1", "mlp.down": "fc2", "norm1": "ln_1", "norm2": "ln_2"}
    old = {f"layers.{i}.{name}.weight": torch.empty(4, 4) for i in range(125) for name in names}
    new = {
        f"model.layers.{i}.{words.get(name, f'self_attn.{name[-1]}_proj')}.weight": torch.empty(4, 4)
        for i in range(125) for name in names
    }  # fmt: skip
    start = time.process_time()
    found = statex.infer(old, like=new)
    assert (found.fits, len(found.guesses)) == (True, 1000)
    assert len(found.rules.splitlines()) <= 10
    assert time.process_time() - start <= 10
