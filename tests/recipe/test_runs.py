"""Recipes carried out: every value beside what torch computes, and several outputs of every combination of formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from statex.execute import stream
from tests.recipe.conftest import STATE, Bench

GRAND = """statex: 1
inputs:
  main: base/
  runs: [runs/1.pth, runs/2.pth, runs/3.pth]
  lora: {path: adapter.safetensors, root: '', format: safetensors}
  head: {path: head.pth, root: model.state}
params:
  w: 0.25
  alpha: 8
  classes: 3
  heads: {file: base/config.json, from: text_config.num_attention_heads}
rules:
  - "drop **.inv_freq"
  - {file: rules/soup.sx, with: {w: 0.5}}
  - {file: rules/scale.sx, with: {by: {param: w}, name: norm}}
  - {file: rules/scale.sx, with: {by: 3.0, name: out}}
  - inline: |
      let factor = alpha / 4
      set {m}.weight = it + factor * (lora::{m}.B @ lora::{m}.A) for lora::{m:**}.A
  - {file: rules/qkv.sx}
  - |
    copy head::{k} -> head.{k}
    set head.weight = it * factor
    expect shape head.weight == [classes, 4]
target: {model: 'models:Net', args: {classes: {param: classes}}}
outputs:
  full: {path: out/full/, format: safetensors, shard_size: 200B, copy_files: true}
  head: {path: out/head.pth, keep: head.**, target: {like: like.pth}}
report: out/report.json
"""
MODELS = """
import torch
from torch import nn
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4, bias=False) for _ in 'qkv')
        self.out = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm(4, bias=False)
class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.head = nn.Linear(4, classes)
"""


def states() -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    torch.manual_seed(1)

    def one() -> dict[str, Any]:
        made: dict[str, Any] = {}
        for i in range(2):
            made |= {
                f"layers.{i}.qkv.weight": torch.randn(12, 4),
                f"layers.{i}.out.weight": torch.randn(4, 4),
                f"layers.{i}.norm.weight": torch.randn(4),
            }
        return made

    base = one() | {"rope.inv_freq": torch.randn(2)}
    lora = {f"layers.{i}.out.{p}": torch.randn(*s) for i in range(2) for p, s in (("A", (2, 4)), ("B", (4, 2)))}
    return base, [one() for _ in range(3)], lora, torch.nn.Linear(4, 3).state_dict()


def by_hand() -> dict[str, torch.Tensor]:
    """What the recipe asks for, by torch."""
    base, runs, lora, head = states()
    result: dict[str, torch.Tensor] = {}
    for i in range(2):
        mixed = {}
        for name in ("qkv", "out", "norm"):
            key = f"layers.{i}.{name}.weight"
            mean = torch.stack([run[key] for run in runs]).mean(0)
            mixed[name] = 0.5 * base[key] + 0.5 * mean
        mixed["norm"] = mixed["norm"] * 0.25
        mixed["out"] = mixed["out"] * 3.0
        mixed["out"] = mixed["out"] + 2.0 * (lora[f"layers.{i}.out.B"] @ lora[f"layers.{i}.out.A"])
        q, k, v = mixed["qkv"].reshape(2, 3, 2, 4).permute(1, 0, 2, 3).reshape(3, 4, 4).unbind(0)
        result |= {f"layers.{i}.{name}.weight": tensor for name, tensor in (("q", q), ("k", k), ("v", v))}
        result |= {f"layers.{i}.out.weight": mixed["out"], f"layers.{i}.norm.weight": mixed["norm"]}
    return result | {"head.weight": head["weight"] * 2.0, "head.bias": head["bias"]}


@pytest.fixture
def grand(bench: Bench) -> Bench:
    """Three further inputs, one of them a family; two rule files, one of them twice; blocks; two outputs."""
    base, runs, lora, head = states()
    bench.save("base/model.safetensors", base)
    bench.write("base/config.json", json.dumps({"text_config": {"num_attention_heads": 2, "heads": 7}}))
    for number, run in enumerate(runs, 1):
        bench.save(f"runs/{number}.pth", run)
    bench.save("adapter.safetensors", lora)
    bench.save("head.pth", {"epoch": 4, "model": {"state": head}})
    bench.save("like.pth", {f"head.{name}": tensor for name, tensor in head.items()})
    soup = "param w: float\ninput runs[]\nset ** = (1 - w) * it + w * mean(runs::{key})\n"
    bench.write("rules/soup.sx", soup)
    bench.write("rules/scale.sx", "param by: float\nparam name: str\nset **.{$name}.weight = it * by\n")
    qkv = "param heads: int\nsplit {m:**}.qkv.weight -> {m}.{p:q|k|v}.weight = "
    bench.write("rules/qkv.sx", qkv + "rearrange('(h three d) c -> three (h d) c', h=heads, three=3) | unstack\n")
    bench.write("models.py", MODELS)
    bench.write("recipe.yaml", GRAND)
    return bench


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert sorted(one) == sorted(other)
    for key, tensor in one.items():
        assert (tensor.dtype, tensor.shape) == (other[key].dtype, other[key].shape), key
        ours, theirs = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (tensor, other[key]))
        assert torch.equal(ours, theirs), key


def test_every_value_is_that_of_torch(grand: Bench) -> None:
    ended = grand("--allow-import")
    expected = by_hand()
    full = grand.load("out/full")
    assert sorted(full) == sorted(expected)
    for key, tensor in expected.items():
        torch.testing.assert_close(full[key], tensor, msg=key)
    for key in full:
        if ".q." in key or ".norm." in key or "head" in key:
            assert torch.equal(full[key], expected[key]), key
    same_bits(grand.load("out/head.pth"), {key: full[key] for key in ("head.weight", "head.bias")})
    assert len(list((grand.folder / "out/full").glob("model-*"))) > 2
    assert (grand.folder / "out/full/config.json").read_bytes() == (grand.folder / "base/config.json").read_bytes()
    assert "full: verified against Net: all 12 keys agree" in ended.out
    assert "head: verified against like.pth: all 2 keys agree" in ended.out
    assert "wrote the report out/report.json" in ended.out
    assert grand.leftovers == []


def test_a_target_that_does_not_fit_leaves_nothing(grand: Bench) -> None:
    before = grand.files()
    assert grand.codes("--allow-import", "-D", "classes=4", code=1) == ["SX317"]
    grand.save("like.pth", {"head.weight": torch.zeros(3, 5), "head.bias": torch.zeros(3)})
    assert grand.codes("--allow-import", code=1) == ["SX501"]
    assert [name for name in grand.files() if name not in before] == []


# --- several outputs of one plan ---------------------------------------------------------------------------------

COMPUTED = """statex: 1
inputs: {main: in.pth}
rules:
  - |
    set **.weight = it @ transpose(it) where ndim == 2
    add tied.a = exp(big.weight)
    copy tied.a -> tied.b
    add empty = exp(zeros([0, 3]))
    set odd = roll(1)
    add none = rearrange(zeros([2, 0]), 'a b -> b a') | exp
    set turned = transpose
outputs:
  one: {path: 'FIRST'}
  two: {path: 'SECOND'}
"""
FORMATS = {
    "torch": "{}.pth",
    "safetensors": "{}.safetensors",
    "torch set": "{}/', format: torch, shard_size: '64B",
    "safetensors set": "{}/', format: safetensors, shard_size: '64B",
    "dcp": "{}/', format: 'dcp",
}
BIG = {
    "big.weight": torch.linspace(-3, 3, 12).reshape(4, 3),
    "half.weight": torch.linspace(-1, 1, 6).reshape(2, 3).to(torch.bfloat16),
    "odd": torch.arange(5),
    "turned": torch.arange(6, dtype=torch.int16).reshape(2, 3),
    "plain": torch.tensor([float("nan"), -0.0]),
}


def computed() -> dict[str, torch.Tensor]:
    result = dict(BIG)
    for key in ("big.weight", "half.weight"):
        result[key] = BIG[key] @ BIG[key].T
    result["tied.a"] = result["tied.b"] = torch.exp(result["big.weight"])
    result["odd"] = BIG["odd"].roll(1)
    result["turned"] = BIG["turned"].T
    return result | {"empty": torch.zeros(0, 3), "none": torch.zeros(0, 2)}


@pytest.mark.parametrize(("first", "second"), list(product(FORMATS, FORMATS)))
@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_bits_are_equal_in_all_formats_and_computed_once(bench: Bench, first: str, second: str) -> None:
    bench.save("in.pth", BIG)
    text = COMPUTED.replace("FIRST", FORMATS[first].format("one")).replace("SECOND", FORMATS[second].format("two"))
    bench.write("recipe.yaml", text)
    taken: list[int] = []
    original = stream.Stream._made

    def made(self: stream.Stream, id: int, kind: Any) -> Any:
        blob = original(self, id, kind)
        buffers = blob.buffers

        def counted() -> Any:
            taken.append(id)
            return buffers()

        blob.buffers = counted
        return blob

    with mock.patch.object(stream.Stream, "_made", made):
        bench()
    names = [FORMATS[name].format(place).partition("'")[0] for name, place in ((first, "one"), (second, "two"))]
    expected = computed()
    for name in names:
        found = bench.load(name)
        assert sorted(found) == sorted(expected)
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, equal_nan=True, msg=key)
    same_bits(bench.load(names[0]), bench.load(names[1]))
    if (first, second) != ("dcp", "dcp"):
        # What is tied stands twice in safetensors, and nothing is read from a folder of `dcp`.
        tied = (second if first == "dcp" else first).startswith("safetensors")
        assert len(taken) - len(set(taken)) == tied
    if first == second == "torch":
        loaded = [bench.load(name) for name in names]
        assert all(one["tied.a"].data_ptr() == one["tied.b"].data_ptr() for one in loaded)


def test_an_output_reads_what_the_one_before_computed(bench: Bench) -> None:
    """The first output holds a part; the second reads that part from it, and computes the rest."""
    bench.save("in.pth", {f"{name}.{i}": torch.randn(3, 3) for i in range(3) for name in "ab"})
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nrules: ['set ** = it @ it']\n"
        "outputs:\n  part: {path: part.pth, keep: 'a.*'}\n  all: all.safetensors\n  rest: {path: rest/, keep: ['b.*',"
        " 'a.1'], format: torch, shard_size: 40B}\n",
    )
    state = bench.load("in.pth")
    bench()
    expected = {key: tensor @ tensor for key, tensor in state.items()}
    same_bits(bench.load("all.safetensors"), expected)
    same_bits(bench.load("part.pth"), {key: expected[key] for key in expected if key.startswith("a")})
    same_bits(bench.load("rest"), {key: expected[key] for key in expected if key[0] == "b" or key == "a.1"})


def test_ties_go_where_the_format_can_say_so(bench: Bench) -> None:
    shared = torch.randn(3, 3)
    bench.save("in.pth", {"a.weight": shared, "b.weight": shared})
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nrules: ['set a.weight, b.weight = it * 2']\n"
        "outputs: {one: one.safetensors, two: two.pth}\n",
    )
    ended = bench()
    assert "SX905" in ended.err or "are one tensor" in ended.err
    found = bench.load("two.pth")
    assert found["a.weight"].data_ptr() == found["b.weight"].data_ptr()
    same_bits(found, bench.load("one.safetensors"))


def test_a_root_as_a_list(bench: Bench) -> None:
    nested = {"a": {"b": {"w": torch.ones(1)}}, "a.b": {"v": torch.zeros(1)}, "l": [{"x": torch.ones(2)}]}
    bench.save("nested.pth", nested)
    bench.write(
        "recipe.yaml",
        "statex: 1\n"
        "inputs: {main: {path: nested.pth, root: ['a.b']}, ft: {path: nested.pth, root: ['l', 0]}}\n"
        "rules: ['copy ft::x -> x']\n"
        "outputs: out.pth\n"
        "policy: {unchanged: skip, replace: own}\n"
        "report: report.json\n",
    )
    bench()
    assert list(bench.load("out.pth")["a.b"]) == ["v", "x"]
    assert "nothing has changed" in bench().out
    text = (bench.folder / "recipe.yaml").read_text()
    bench.write("recipe.yaml", text.replace("['a.b']", "a.b"))
    (found,) = bench.refused(code=2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX626", 2)


def test_one_output_without_a_name(bench: Bench) -> None:
    bench.write("recipe.yaml", "statex: 1\ninputs: {main: in.pth}\noutputs: out.safetensors\n")
    ended = bench("--json")
    assert [one["name"] for one in ended.json["outputs"]] == ["main"]
    same_bits(bench.load("out.safetensors"), STATE)
    bench("--force", "--out", "main=other.pth")
    same_bits(bench.load("other.pth"), STATE)
    assert bench.codes(code=3) == ["SX610"]


def test_files_that_are_not_copied_are_said_with_what_copies_them(bench: Bench) -> None:
    bench.save("base/model.safetensors", {"a": torch.ones(1)})
    bench.write("base/config.json", "{}")
    text = "statex: 1\ninputs: {main: base/}\noutputs: {path: out/}\n"
    bench.write("recipe.yaml", text)
    assert "not copied: config.json (copy_files: true)" in bench().out.splitlines()
    bench.write("recipe.yaml", text.replace("out/", "new/, copy_files: true"))
    assert "not copied" not in bench().out


def test_a_config_that_is_copied_states_the_dtype_of_the_result(bench: Bench) -> None:
    bench.save("base/model.safetensors", {"a": torch.ones(1)})
    bench.write("base/config.json", '{"torch_dtype": "float32"}')
    text = (
        "statex: 1\ninputs: {main: base/}\nrules: [set a = cast(bf16)]\n"
        "outputs: {path: out/, copy_files: true}\nreport: report.json\npolicy: {unchanged: skip}\n"
    )
    bench.write("recipe.yaml", text)
    line = "config.json: torch_dtype float32 -> bfloat16"
    assert line in bench(command="plan").out.splitlines()
    assert line in bench().out.splitlines()
    assert (bench.folder / "out/config.json").read_text() == '{"torch_dtype": "bfloat16"}'
    updated = [{"file": "config.json", "key": "torch_dtype", "before": "float32", "after": "bfloat16"}]
    report = json.loads((bench.folder / "report.json").read_text())
    assert report["outputs"]["main"]["updated"] == updated
    assert "nothing to do" in bench().out
    bench.write("base/config.json", '{"torch_dtype": "float16"}')
    ended = bench("--json")
    assert [one["code"] for one in ended.json["warnings"]] == ["SX917"]
    assert ended.json["outputs"][0]["updated"] == []
    assert (bench.folder / "out/config.json").read_text() == '{"torch_dtype": "float16"}'
    bench.write("recipe.yaml", text.replace("copy_files: true", "copy_files: true, update_config: false"))
    assert bench("--json").json["warnings"] == []


def test_an_output_in_a_folder_with_a_stem_of_its_own(bench: Bench) -> None:
    bench.save("base/consolidated.00.safetensors", {"a": torch.ones(1)})
    text = "statex: 1\ninputs: {main: base/}\noutputs: {path: out/, stem: model.fp16}\n"
    bench.write("recipe.yaml", text)
    bench()
    assert [path.name for path in (bench.folder / "out").iterdir()] == ["model.fp16.safetensors"]
    bench.write("recipe.yaml", text.replace("model.fp16", "model.safetensors"))
    (found,) = bench.refused("--force", code=2)
    assert (found["code"], found["labels"][0]["line"], found["help"]) == (
        "SX645", 3, ["a stem has no ending and no number: `model`"],
    )  # fmt: skip


def test_keys_in_no_output(bench: Bench) -> None:
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\noutputs:\n"
        "  a: {path: a.pth, keep: 'a.*'}\n  b: {path: b.pth, keep: 'b.*'}\n",
    )
    (found,) = bench.refused(code=1)
    assert (found["code"], found["headline"]) == ("SX632", "no output holds `steps`")
    assert found["help"] == ["if it is not needed, a last rule: drop steps"]
    bench.save("in.pth", STATE | {f"more.{number}": torch.zeros(1) for number in range(5)})
    (found,) = bench.refused(code=1)
    assert found["headline"] == "no output holds `steps`, `more.0`, `more.1` and 3 more"
    assert found["help"] == ["if they are not needed, a last rule: keep a.*, b.*"]


def test_outputs_that_no_target_covers_are_named_where_there_are_targets(bench: Bench) -> None:
    bench.write("nets.py", "import torch\ndef net(): return torch.nn.ParameterDict({'x': torch.zeros(1)})\n")
    text = "statex: 1\ninputs: {main: in.pth}\noutputs:\n  a: {path: a.pth}\n  b: {path: b.pth, keep: 'b.*'"
    for target, said in (
        ("}\n", []),
        ("}\ntarget: {like: in.pth}\n", ["b"]),
        (", target: {model: 'nets:net'}}\n", ["a"]),
        (", target: {model: 'nets:net'}}\ntarget: {like: in.pth}\n", []),
    ):
        bench.write("recipe.yaml", text + target)
        lines = bench(command="plan").out.splitlines()
        assert [line.partition(":")[0] for line in lines if "unverified: " in line] == said, target


def test_patterns_of_keys_that_match_nothing(bench: Bench) -> None:
    text = (
        "statex: 1\ninputs: {main: in.pth}\noutputs:\n  a: {path: a.pth}\n  b:\n    path: b.pth\n"
        "    keep:\n      - 'a.*'\n      - 'b.weigth'\n      - \"c.**\"\n"
    )
    bench.write("recipe.yaml", text)
    found = bench.refused(code=1)
    assert [(one["code"], one["labels"][0]["line"], one["labels"][0]["column"]) for one in found] == [
        ("SX301", 9, 10),
        ("SX301", 10, 10),
    ]
    assert found[0]["help"] == ["did you mean `b.weight`?"]


def test_a_parameter_in_a_pattern_of_keys(bench: Bench) -> None:
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nparams: {part: a}\noutputs:\n  all: all.pth\n"
        "  one: {path: one.pth, keep: '{$part}.*'}\n",
    )
    bench()
    assert sorted(bench.load("one.pth")) == ["a.bias", "a.weight"]
    bench("-D", "part=b", "--force")
    assert sorted(bench.load("one.pth")) == ["b.weight"]


@pytest.mark.parametrize("kind", ["safetensors", "dcp"])
def test_an_input_of_another_format(bench: Bench, kind: str) -> None:
    bench.write("recipe.yaml", f"statex: 1\ninputs: {{main: {{path: in.pth, format: {kind}}}}}\noutputs: out.pth\n")
    (found,) = bench.refused(code=3)
    assert (found["code"], found["labels"][0]["line"]) == ("SX630", 2)
    assert found["headline"] == f"`in.pth` is of the format torch, and {kind} was expected"


# --- what lies in whose way --------------------------------------------------------------------------------------


def outputs(bench: Bench, text: str, inputs: str = "in.pth", more: str = "") -> list[dict[str, Any]]:
    bench.write("recipe.yaml", f"statex: 1\ninputs: {{main: {inputs}}}\noutputs: {text}\n{more}")
    before = bench.files()
    ended = bench.call("run", "recipe.yaml", "--json")
    assert ended.exit_code in (2, 3), ended.out
    assert bench.files() == before
    assert bench.call("plan", "recipe.yaml", "--json").exit_code in (0, 2)
    return ended.json["diagnostics"]  # type: ignore[no-any-return]


def headlines(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["code"], one["headline"]) for one in found]


def test_outputs_that_are_one_file(bench: Bench) -> None:
    said = "the output `b` and the output `a` are both `a.pth`"
    assert headlines(outputs(bench, "{a: a.pth, b: ./a.pth}")) == [("SX631", said)]
    (bench.folder / "link.pth").symlink_to("a.pth")
    (found,) = outputs(bench, "{a: link.pth, b: a.pth}", more="policy: {replace: always}\n")
    assert found["code"] == "SX631"
    (bench.folder / "there").symlink_to(".")
    (found,) = outputs(bench, "{a: there/a.pth, b: a.pth}")
    assert found["code"] == "SX631"
    assert [label["line"] for label in found["labels"]] == [3, 3]


def test_outputs_inside_each_other_and_in_an_input(bench: Bench) -> None:
    assert headlines(outputs(bench, "{a: out/, b: out/b.pth}")) == [
        ("SX631", "the output `b` lies inside the output `a`")
    ]
    assert headlines(outputs(bench, "{a: out/deep/a.pth, b: out/}")) == [
        ("SX631", "the output `a` lies inside the output `b`")
    ]
    bench.save("base/model.safetensors", STATE)
    (found,) = outputs(bench, "base/out.pth", "base/")
    assert found["headline"] == "the output `main` lies inside the input `base`"
    (found,) = outputs(bench, "base/", "base/model.safetensors")
    assert found["code"] in ("SX631", "SX610")


def test_the_report_in_the_way(bench: Bench) -> None:
    found = outputs(bench, "out.pth", more="report: out.pth\n")
    assert headlines(found) == [("SX631", "the report and the output `main` are both `out.pth`")]
    found = outputs(bench, "out/", more="report: out/report.json\n")
    assert headlines(found) == [("SX631", "the report lies inside the output `main`")]
    found = outputs(bench, "out.pth", more="report: in.pth\n")
    assert headlines(found) == [("SX631", "the report is the input `in.pth`")]
    found = outputs(bench, "out.pth", more="report: rules/main.sx\n")
    assert headlines(found) == [("SX610", "`rules/main.sx` exists")]
    assert found[0]["notes"] == ["it is not a report of statex, and would be replaced by one"]


def test_a_recipe_and_its_rules_are_no_outputs(bench: Bench) -> None:
    bench.write("config.json", '{"n": 1}')
    head = "statex: 1\ninputs: {main: in.pth}\nparams: {by: 2.0, n: {file: config.json}}\nrules: [rules/main.sx]\n"
    head = head.replace("[rules/main.sx]", "[{file: rules/main.sx}, 'set **.bias = it * n']")
    for name in ("recipe.yaml", "rules/main.sx", "config.json"):
        text = f"{head}outputs: {{path: {name}, format: torch}}\n"
        bench.write("recipe.yaml", text)
        before = bench.files()
        assert bench.codes("--force", code=2) == ["SX631"], name
        assert bench.files() == before
        bench.write("recipe.yaml", f"{head}outputs: out.pth\nreport: {name}\n")
        before = bench.files()
        (found,) = bench.refused("--force", code=2)
        assert (found["code"], f"`{name}`" in found["headline"]) == ("SX631", True)
        assert bench.files() == before


def test_an_output_that_is_the_input(bench: Bench) -> None:
    assert headlines(outputs(bench, "in.pth")) == [("SX611", "`in.pth` is the input itself")]
    bench.write("recipe.yaml", "statex: 1\ninputs: {main: in.pth}\nrules: ['drop steps']\noutputs: in.pth\n")
    bench("--force")
    assert sorted(bench.load("in.pth")) == ["a.bias", "a.weight", "b.weight"]


def test_missing_folders_are_made_and_go_again(bench: Bench) -> None:
    text = "statex: 1\ninputs: {main: in.pth}\noutputs: {a: deep/er/a.pth, b: deep/b/}\nreport: other/report.json\n"
    bench.write("recipe.yaml", text)
    before = bench.files()
    with mock.patch("statex.session.conversion.make_report", side_effect=KeyboardInterrupt):
        bench(code=130)
    assert bench.files().keys() == before.keys()
    bench()
    assert sorted(name for name in bench.files() if name not in before) == [
        "deep", "deep/b", "deep/b/pytorch_model.bin", "deep/er", "deep/er/a.pth", "other", "other/report.json",
    ]  # fmt: skip


def test_a_folder_that_is_passed_through_is_made(bench: Bench) -> None:
    text = "statex: 1\ninputs: {main: in.pth}\noutputs: {a: new/../a.pth, b: other/deep/../b.pth}\n"
    bench.write("recipe.yaml", text)
    bench()
    assert bench.load("a.pth").keys() == bench.load("other/b.pth").keys() == bench.load("in.pth").keys()


def test_a_file_where_a_folder_is_needed(bench: Bench) -> None:
    bench.write("taken", "text")
    assert headlines(outputs(bench, "{a: a.pth, b: taken/b.pth}"))[0][0] == "SX612"
    (bench.folder / "loose").symlink_to("nowhere")
    assert headlines(outputs(bench, "{a: a.pth, b: loose/b.pth}"))[0][0] == "SX612"


def test_every_output_in_the_way_is_named(bench: Bench) -> None:
    bench.save("a.pth", STATE)
    bench.save("b.pth", STATE)
    found = outputs(bench, "\n  a: a.pth\n  b: b.pth\n  c: c.what")
    assert [(one["code"], one["labels"][0]["line"]) for one in found] == [("SX613", 6)]
    found = outputs(bench, "\n  a: a.pth\n  b: b.pth\n  c: c.pth")
    assert [(one["code"], one["labels"][0]["line"]) for one in found] == [("SX610", 4), ("SX610", 5)]


def test_outputs_share_the_room_of_a_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.save("in.pth", {"a": torch.zeros(1000)})
    bench.write("recipe.yaml", "statex: 1\ninputs: {main: in.pth}\noutputs: {a: a.pth, b: deep/b.pth}\n")
    for free, said in (
        (
            6000,
            "`deep/b.pth` would take 5.2 KiB, with 5.2 KiB of other outputs on the same disk, and its disk has 5.9 KiB",
        ),
        (3000, "`a.pth` would take 5.2 KiB, and its disk has 2.9 KiB"),
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        (found,) = bench.refused(code=3)
        assert (found["code"], found["headline"]) == ("SX615", f"{said} left")
        assert not (bench.folder / "deep").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=11000))
    bench()


def test_paths_are_those_of_the_recipe(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write("deep/recipe.yaml", "statex: 1\ninputs: {main: ../in.pth}\noutputs: ../out.pth\n")
    (bench.folder / "elsewhere").mkdir()
    monkeypatch.chdir(bench.folder / "elsewhere")
    bench(recipe="../deep/recipe.yaml")
    same_bits(bench.load("out.pth"), STATE)
    assert Path("out.pth").exists() is False
