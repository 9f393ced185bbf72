"""What goes wrong gets one clear diagnostic and its exit code, and the output path is left as it was."""

from __future__ import annotations

import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("state")

BEFORE = b"what was here before"


@pytest.fixture(params=[False, True], ids=["no output yet", "an output to replace"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "out.pth"
    if request.param:
        path.write_bytes(BEFORE)
    return path


def assert_untouched(output: Path) -> None:
    """Check that nothing was written: not the output, and no temporary file beside it."""
    if output.exists():
        assert output.read_bytes() == BEFORE
    left = {p.name for p in output.parent.iterdir()} - {"in.pth", "out.pth", "models.py", "rules.sx", "__pycache__"}
    assert not [name for name in left if "tmp" in name], left


RULES = [
    ("unknown verb", "renmae a -> b", 1, "SX102", "did you mean `rename`?"),
    ("unclosed bracket", "set emb.weight = cat(it,\n  it", 1, "SX103", "1:21"),
    ("unbound capture", "rename layers.{i}.q.weight -> x.{j}", 1, "SX155", "the pattern binds `{i}`"),
    ("no match", "drop layers.{i}.query.weight", 1, "SX301", "the next segments there are q, k and v"),
    ("no match in a table", "rename { layers.{i}.q.weight -> q.{i}\n lost -> found }", 1, "SX301", ":2:2"),
    ("collision", "rename layers.{i}.q.weight -> x", 1, "SX302", "layers.1.q.weight -> x"),
    ("onto an existing key", "rename layers.0.q.weight -> emb.weight", 1, "SX302", "layers.0.q.weight -> emb.weight"),
    ("ambiguous captures", "rename {a:**}.{b:**}.weight -> {b}.{a}.w", 1, "SX307", "a = 'layers', b = '0.q'"),
    ("wrong type", "set emb.weight = chunk('x')", 1, "SX405", "takes an int, and this is the text 'x'"),
    ("wrong shape", "set emb.weight = reshape([5, 5])", 1, "SX401", "it = f32[7, 4]"),
    ("mixed dtypes", "set layers.0.q.weight = it + layers.0.q.bias", 1, "SX402", "layers.0.q.bias = bf16[4]"),
    ("missing parameter", "param heads: int", 2, "SX204", "-D heads="),
    ("missing input", "input lora", 2, "SX210", "--in lora=PATH"),
    ("missing input that is read", "input a\nset emb.weight = it + a::x.w", 2, "SX210", "--in a=PATH"),
    ("missing input that is matched", "input a[]\nset x = it for a::**", 2, "SX210", "--in a=PATH"),
    ("missing input whose order is taken", "input a\norder like a", 2, "SX210", "--in a=PATH"),
    (
        "gap in over",
        "drop layers.1.q.weight\nmerge layers.{i:int}.q.weight over i -> q = stack",
        1,
        "SX310",
        "present: 0 and 2",
    ),
    (
        "incomplete group",
        "drop layers.1.q.weight\n"
        "merge layers.{i}.q.weight as q, layers.{i}.k.weight as k -> layers.{i}.qk.weight = cat(q, k)",
        1,
        "SX309",
        "for i = 1",
    ),
    ("sizes that differ", "merge layers.0.q.weight, emb.weight -> x = cat(dim=1)", 1, "SX401", "the other axes differ"),
    ("sizes of sections", "split emb.weight -> e.{p:a|b} = sections([3, 3])", 1, "SX407", "the sizes sum to 6"),
    ("an uneven chunk", "split emb.weight -> e.{p:a|b} = chunk(2)", 1, "SX407", "sections([a, b, …])"),
    ("nesting of parentheses", "set emb.weight = " + "(" * 300 + "it" + ")" * 300, 1, "SX107", "nested more than 100"),
    ("a root in a block", "if true { root 'x' }", 1, "SX216", "outside of any block"),
    ("an input in a block", "within layers.{i} { input x }", 1, "SX216", "outside of any block"),
    ("an unknown operation", "set emb.weight = transpoze(0, 1)", 1, "SX203", "did you mean `transpose`?"),
    ("an expectation", "expect count(layers.{i}.q.weight) == 4", 1, "SX317", "count(layers.{i}.q.weight) = 3"),
    ("sources that nothing gathers", "merge layers.{i}.{p:q|k}.weight -> layers.{i}.qk = cat", 1, "SX302", "over p"),
    (
        "a captured case",
        "merge layers.{i}.{p:q|k}.weight -> layers.qk = cat",
        1,
        "SX302",
        "0, p = k; i = 1, p =",
    ),
    ("renumber to the end", "renumber layers.{i:int}.**", 1, "SX315", "help: renumber layers.{i:int}\n"),
    ("a prefix without its dot", "rename prefix 'emb' -> ''", 1, "SX316", "include the dot"),
    ("a list of numbers in a key", "drop layers.[0, 1].**", 1, "SX106", "`[` cannot be part of a bare key"),
    ("a key that ends in a dot", "drop layers.", 1, "SX106", "help: quote it: 'layers.'"),
    ("a name with a dot", "param a.b: int", 1, "SX106", "`.` cannot be part of a name"),
    ("a method", "set emb.weight = it.reshape(4, -1)", 1, "SX101", "help: write `reshape(4, -1)`"),
    ("a function of torch", "set emb.weight = torch.zeros_like(it)", 1, "SX101", "help: write `zeros_like(it)`"),
    ("a template in the wrong quotes", "rename /layers.(.*)/ -> '{1}'", 1, "SX163", '-> "{1}"\n'),
    ("a template in no quotes", "rename layers.{i}.** -> 'x.{m}'", 1, "SX302", "in '…' nothing is filled in"),
    ("a length that is no int", "set emb.weight = rearrange('(a b) c -> a b c', a=2.5)", 1, "SX405", "not 2.5"),
    ("a condition on a capture", "drop layers.{i:int}.q.weight where i > 7", 1, "SX319", "f32[4, 4]   i = 0"),
    ("near inside of within", "within layers.{i} { drop q.wieght }", 1, "SX301", "did you mean `q.weight`?"),
    (
        "macros without end",
        "macro m0() { drop b }; "
        + "; ".join(f"macro m{i}() {{ use m{i - 1}() }}" for i in range(1, 120))
        + "; use m119()",
        1,
        "SX225",
        "nested more than 100 deep",
    ),
    ("a list as text", "param l: list = 3", 2, "SX206", "as in JSON: `[1, 2]`"),
    ("a dtype as text", "param d: dtype = 'half'", 2, "SX206", "`bfloat16`, `bf16`"),
    ("a target that is not given", "order like target", 2, "SX506", "--target"),
]


@pytest.mark.parametrize(("rules", "exit_code", "code", "says"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_rules(run: Run, output: Path, rules: str, exit_code: int, code: str, says: str) -> None:
    ended = run("apply", "-e", rules, "in.pth", output, "--force")
    assert (ended.exit_code, ended.out) == (exit_code, "")
    assert re.findall(r"^error\[(\w+)\]", ended.err, re.M) == [code], ended.err
    assert says in ended.err
    assert_untouched(output)


@pytest.mark.parametrize(("rules", "exit_code", "code"), [r[1:4] for r in RULES], ids=[r[0] for r in RULES])
def test_rules_as_json(run: Run, rules: str, exit_code: int, code: str) -> None:
    ended = run("plan", "-e", rules, "in.pth", "--json")
    assert (ended.exit_code, ended.err) == (exit_code, "")
    assert ended.json["ok"] is False
    assert [d["code"] for d in ended.json["diagnostics"]] == [code]


def test_nested_blocks(run: Run, output: Path) -> None:
    ended = run("apply", "-e", "if true {\n" * 300 + "drop emb.weight\n" + "}\n" * 300, "in.pth", output, "--force")
    assert ended.exit_code == 1
    assert re.findall(r"^error\[(\w+)\]", ended.err, re.M) == ["SX107"]
    assert_untouched(output)


OPTIONS = [
    ("unknown -D", ["-D", "haeds=3"], 2, "SX205"),
    ("an input that is not declared", ["--in", "lora=in.pth"], 2, "SX211"),
    ("no such module", ["--target", "no_such_module:Net"], 2, "SX502"),
    ("no such callable", ["--target", "models:Nett"], 2, "SX502"),
    ("a callable that fails", ["--target", "models:broken"], 2, "SX503"),
    ("no callable", ["--target", "models:number"], 2, "SX503"),
    ("another model", ["--target", "models:Net"], 1, "SX501"),
    ("a file of parameters that is missing", ["--params", "lost.json"], 3, "SX223"),
    ("an unknown format", ["--format", "gguf"], 2, "SX613"),
]


@pytest.mark.parametrize(("options", "exit_code", "code"), [r[1:] for r in OPTIONS], ids=[r[0] for r in OPTIONS])
def test_options(run: Run, output: Path, options: list[str], exit_code: int, code: str) -> None:
    ended = run("apply", "-e", "drop emb.weight", "in.pth", output, "--force", *options)
    assert re.findall(r"^error\[(\w+)\]", ended.err, re.M) == [code], ended.err
    assert (ended.exit_code, ended.out) == (exit_code, "")
    assert_untouched(output)


TARGETS = [
    ("no colon", "models", "is not of the form `package.module:callable`", "--target models:Net"),
    ("a file without it", "./models.py:Nett", "`./models.py` has no `Nett`", "did you mean `./models.py:Net`?"),
    ("an empty file", "a-b.py:Net", "`a-b.py` has no `Net`", ""),
    ("no such file", "./lost.py:Net", "there is no file `./lost.py`", ""),
    ("a file of something else", "in.pth:Net", "is a file, but not one of Python", "models.py:Net"),
    ("a file that fails", "odd-2.py:Net", "the file `odd-2.py` cannot be imported: SystemExit: 4", "odd-2.py, line 1"),
    ("a file of a package", "part.py:Net", "attempted relative import", "named as a module: --target package.part:"),
    (
        "a script that parses its arguments",
        "script:Net",
        "SystemExit: 2",
        "script.py, line 2: argparse.ArgumentParser(",
    ),
    ("a module that needs another", "needs:Net", "No module named 'no_such_module'", "--like FILE"),
    ("a callable that ends the program", "odd:ends", "SystemExit: 3", "odd.py, line 3: sys.exit(3)"),
    ("no module comes of it", "odd:gives", "gives `int`, not a torch.nn.Module", ""),
    ("an error inside torch", "odd:reads", "odd.py, line 7: return torch.nn.Linear(2, torch.ones(1).tolist()", ""),
]


@pytest.mark.parametrize(("spec", "says", "also"), [r[1:] for r in TARGETS], ids=[r[0] for r in TARGETS])
def test_a_target_that_cannot_be_had(run: Run, output: Path, spec: str, says: str, also: str) -> None:
    Path("a-b.py").touch()
    Path("odd-2.py").write_text("raise SystemExit(4)")
    Path("part.py").write_text("from .models import Net")
    Path("script.py").write_text("import argparse\nargparse.ArgumentParser().parse_args(['--lr'])\n")
    Path("needs.py").write_text("import no_such_module\n")
    Path("odd.py").write_text(
        "import sys, torch\ndef ends():\n    sys.exit(3)\ndef gives():\n    return 3\n"
        "def reads():\n    return torch.nn.Linear(2, torch.ones(1).tolist()[0])\n"
    )
    ended = run("apply", "-e", "drop emb.weight", "in.pth", output, "--force", "--target", spec)
    assert re.findall(r"^error\[(SX50[23])\]", ended.err, re.M), ended.err
    assert says in ended.err
    assert also in ended.err
    assert (ended.exit_code, ended.out) == (2, "")
    assert_untouched(output)


def test_a_target_that_lacks_an_argument_is_not_told_of_our_own_lines(run: Run, output: Path) -> None:
    ended = run("apply", "-e", "", "in.pth", output, "--force", "--target", "torch.nn:Linear")
    assert "SX503" in ended.err
    assert "raised in" not in ended.err


@pytest.mark.parametrize(
    ("script", "code"),
    [("import sys\nsys.exit(0)", "SX502"), ("import sys\ndef Net():\n    sys.exit(0)", "SX503")],
)
def test_a_target_that_ends_the_process(run: Run, tmp_path: Path, output: Path, script: str, code: str) -> None:
    name = f"ending_{code}"
    (tmp_path / f"{name}.py").write_text(script)
    ended = run("apply", "-e", "", "in.pth", output.name, "--force", "--target", f"{name}:Net")
    assert ended.exit_code == 2
    assert f"error[{code}]" in ended.err
    assert "SystemExit: 0" in ended.err


def test_what_is_verified_is_named(run: Run) -> None:
    torch.save({"other.weight": torch.ones(5)}, "other.pth")
    ended = run("verify", "in.pth", "--like", "other.pth")
    assert ended.exit_code == 1
    assert ended.err.startswith("error[SX501]: `in.pth` does not fit other.pth: ")


def test_a_rule_file_without_its_ending_or_after_the_checkpoint(run: Run) -> None:
    Path("names.sx").write_text("")
    Path("folder").mkdir()
    assert "= help: did you mean `names.sx`?" in run("plan", "names", "in.pth").err
    assert "= help: rule files come before the checkpoint" in run("plan", "folder", "in.pth").err
    assert "help" not in run("plan", "nothing", "in.pth").err


def test_a_recipe_where_rules_are_expected(run: Run) -> None:
    Path("recipe.yaml").write_text("statex: 1\n")
    ended = run("diff", "in.pth", "in.pth", "--rules", "recipe.yaml")
    assert ended.exit_code == 3
    assert ended.err.startswith("error[SX222]: `recipe.yaml` is named like a recipe, and rules are expected\n")


def test_missing_and_unexpected_keys_stand_side_by_side(run: Run, output: Path) -> None:
    torch.save({"lin.weight": torch.ones(5, 10), "linear.bias": torch.ones(5)}, "in.pth")
    ended = run("apply", "-e", "", "in.pth", output, "--force", "--target", "models:Net")
    assert ended.exit_code == 1
    assert "6 missing, 1 unexpected (1 of 7 keys agree)" in ended.err
    assert re.search(r"missing +linear\.weight +f32\[5, 10\] +same type as unexpected `lin\.weight`", ended.err)
    assert re.search(r"unexpected +lin\.weight +f32\[5, 10\] +untouched since the input", ended.err)
    assert_untouched(output)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", ""], "argument 1 is empty"),
        (["diff", "in.pth", ""], "argument 2 is empty"),
        (["verify", "", "--like", "in.pth"], "argument 1 is empty"),
        (["apply", "-e", "drop x", "", "out.pth"], "argument 1 is empty"),
        (["apply", "-e", "drop x", "in.pth", ""], "argument 2 is empty"),
        (["plan", "-e", "", "in.pth", "--in", "x="], "`x=` has no path"),
        (["run", ""], "argument 1 is empty"),
        (["run", "recipe.yaml", "--in", "main="], "`main=` has no path"),
        (["run", "recipe.yaml", "--out", "main="], "`main=` has no path"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(run: Run, output: Path, arguments: list[str], says: str) -> None:
    Path("recipe.yaml").write_text("statex: 1\ninputs: {main: in.pth}\noutputs: out.pth\n")
    save_file({"w": torch.ones(2)}, "model.safetensors")
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert says in ended.err
    assert "a variable that is not set" in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plan", "-e", "drop x.y", "rules.txt", "in.pth"], "2 paths were given; beside -e this takes IN"),
        (["plan", "in.pth"], "1 path was given; this takes RULES IN, or beside -e: IN"),
        (["check"], "0 paths were given; this takes RULES [IN], or beside -e: [IN]"),
        (["plan", "-e", "input x", "in.pth", "--in", "x.pth"], "`x.pth` is not of the form NAME=PATH"),
        (["plan", "-e", "", "in.pth", "-D", "x"], "`x` is not of the form NAME=VALUE"),
    ],
)
def test_wrong_usage_says_what_is_right(run: Run, arguments: list[str], says: str) -> None:
    ended = run(*arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert says in ended.err


@pytest.mark.parametrize(
    ("rules", "meant"),
    [
        ("set layers.{i}.q.weight = it + a::layers.{i}.q.weight", "a::layers.*.k.weight, a::emb.weight"),
        ("", "a::**"),
    ],
)
def test_the_help_for_tensors_that_nothing_reads_can_be_pasted(run: Run, rules: str, meant: str) -> None:
    torch.save(
        {f"layers.{i}.{n}.weight": torch.ones(4, 4) for i in range(12) for n in "qk"} | {"emb.weight": torch.ones(1)},
        "a",
    )
    program = f"input a\n{rules}"
    ended = run("plan", "-e", program, "a", "--in", "a=a")
    assert f"help: if this is meant: drop {meant}\n" in ended.err
    ended = run("plan", "-e", f"{program}\ndrop {meant}", "a", "--in", "a=a")
    assert (ended.exit_code, ended.err) == (0, "")


def test_a_cycle_of_includes(run: Run, output: Path) -> None:
    Path("rules.sx").write_text("include 'other.sx'\n")
    Path("other.sx").write_text("include 'rules.sx'\n")
    ended = run("apply", "rules.sx", "in.pth", output, "--force")
    assert ended.exit_code == 1
    assert "error[SX214]" in ended.err
    assert "rules.sx -> other.sx -> rules.sx" in ended.err
    assert_untouched(output)


def test_a_chain_of_links_that_includes_itself(run: Run, output: Path) -> None:
    Path("rules.sx").write_text("include 'a/rules.sx'\n")
    os.symlink(".", "a")
    ended = run("apply", "rules.sx", "in.pth", output, "--force")
    assert ended.exit_code in (1, 3)
    assert len(re.findall(r"^error\[", ended.err, re.M)) == 1
    assert_untouched(output)


@pytest.mark.parametrize("content", [bytes(range(256)), b"\x00" * 64, b"PK\x03\x04" + bytes(100), os.urandom(4096)])
def test_a_binary_file_as_rules(run: Run, output: Path, content: bytes) -> None:
    Path("rules.sx").write_bytes(content)
    ended = run("apply", "rules.sx", "in.pth", output, "--force")
    assert ended.exit_code in (1, 3)
    assert re.match(r"error\[SX\d+\]", ended.err), ended.err
    assert len(ended.err) < 20_000
    assert_untouched(output)


def test_an_existing_output(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out.pth").write_bytes(BEFORE)
    ended = run("apply", "-e", "drop emb.weight", "in.pth", "out.pth")
    assert ended.exit_code == 3
    assert ended.err.startswith("error[SX610]: `out.pth` exists")
    assert "--force" in ended.err
    assert_untouched(tmp_path / "out.pth")


def test_the_input_as_output(run: Run, state: dict[str, torch.Tensor]) -> None:
    before = Path("in.pth").read_bytes()
    ended = run("apply", "-e", "drop emb.weight", "in.pth", "in.pth")
    assert ended.exit_code == 3
    assert "error[SX611]" in ended.err
    assert Path("in.pth").read_bytes() == before
    assert run("apply", "-e", "drop emb.weight", "in.pth", "in.pth", "--force").exit_code == 0
    assert set(torch.load("in.pth", weights_only=True)) == set(state) - {"emb.weight"}


@pytest.mark.parametrize("destination", ["missing/out.pth", ".", "models.py/out.pth"])
def test_an_output_that_cannot_be(run: Run, destination: str) -> None:
    ended = run("apply", "-e", "drop emb.weight", "in.pth", destination, "--force")
    assert (ended.exit_code, ended.err[:13]) == (3, "error[SX612]:")


class Foreign:
    """Pickled as a call that leaves a mark."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def _foreign_zip(path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": Foreign()}, path)


def _foreign_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": Foreign()}))


def _foreign_legacy(path: Path) -> None:
    torch.save({"a": torch.ones(1), "b": Foreign()}, path, _use_new_zipfile_serialization=False)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _no_checkpoint(path: Path) -> None:
    path.write_text("hello" * 10)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _lying_safetensors(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _missing(path: Path) -> None:
    path.unlink()


def _forbidden(path: Path) -> None:
    path.chmod(0)


SPOIL = [
    (_foreign_zip, "SX640"),
    (_foreign_pickle, "SX603"),
    (_foreign_legacy, "SX640"),
    (_truncated, "SX604"),
    (_no_checkpoint, "SX602"),
    (_empty, "SX602"),
    (_lying_safetensors, "SX602"),
    (_folder, "SX602"),
    (_missing, "SX601"),
    (_forbidden, "SX601"),
]


@pytest.mark.parametrize(("spoil", "code"), SPOIL)
def test_a_file_that_cannot_be_read(
    run: Run, tmp_path: Path, output: Path, spoil: Callable[[Path], None], code: str
) -> None:
    spoil(tmp_path / "in.pth")
    if spoil is _forbidden and os.access(tmp_path / "in.pth", os.R_OK):
        pytest.skip("this user may read everything")
    ended = run("apply", "-e", "drop a", "in.pth", output, "--force")
    assert (ended.exit_code, ended.out) == (3, "")
    assert re.findall(r"^error\[(SX\d+)\]: .*`in.pth`", ended.err, re.M) == [code], ended.err
    assert "weights_only" not in ended.err
    assert not (tmp_path / "executed").exists()
    assert_untouched(output)


def test_states_in_files(run: Run, state: dict[str, torch.Tensor]) -> None:
    torch.save({"epoch": 3}, "none.pth")
    torch.save({"model": state, "ema": state}, "two.pth")
    torch.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, "joined.pth")
    torch.save({"epoch": 3, "model": state}, "nested.pth")
    for arguments, exit_code, code in (
        (["none.pth", "out.pth"], 3, "SX605"),
        (["two.pth", "out.pth"], 2, "SX606"),
        (["nested.pth", "out.pth", "--root", "state_dict"], 2, "SX607"),
        (["joined.pth", "out.pth", "--root", ""], 3, "SX608"),
        (["in.pth", "out.weights"], 2, "SX613"),
        (["nested.pth", "out.safetensors"], 3, "SX614"),
        (["in.pth", "out.pth", "--target", "models:Net", "--like", "in.pth"], 2, "SX505"),
    ):
        ended = run("apply", "-e", "", *arguments)
        assert re.findall(r"^error\[(SX\d+)\]", ended.err, re.M) == [code], ended.err
        assert ended.exit_code == exit_code
        assert not list(Path.cwd().glob("out*"))
    ended = run("plan", "in.pth", "in.pth")
    assert ended.exit_code == 3
    assert ended.err.startswith("error[SX222]: `in.pth` is a binary file, not text")


USAGE = [
    [],
    ["apply"],
    ["apply", "in.pth", "out.pth"],
    ["apply", "-e", "drop emb.weight", "in.pth"],
    ["apply", "-e", "drop emb.weight", "in.pth", "out.pth", "-D", "x"],
    ["apply", "-e", "drop emb.weight", "in.pth", "out.pth", "--target-arg", "x=1"],
    ["verify", "in.pth"],
    ["explain", "SX999"],
    ["ops", "chnk"],
    ["aply"],
]


@pytest.mark.parametrize("arguments", USAGE, ids=[" ".join(u) or "nothing" for u in USAGE])
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert "Usage:" in ended.err + ended.out
    assert "Traceback" not in ended.err


def test_control_characters_do_not_reach_the_terminal(run: Run) -> None:
    torch.save({"a\x1b[31m.weight": torch.ones(1), "b\n": torch.ones(2)}, "evil\x1b[2J.pth")
    for arguments in (
        ["plan", "-e", "drop c", "evil\x1b[2J.pth"],
        ["show", "evil\x1b[2J.pth"],
        ["plan", "--keys", "-e", "rename prefix '' -> 'x'", "evil\x1b[2J.pth"],
        ["apply", "-e", "", "evil\x1b[2J.pth", "out\x1b.pth"],
        ["apply", "-e", "", "evil\x1b[2J.pth", "out\x1b.pth", "--like", "in.pth", "--force"],
    ):
        ended = run(*arguments)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ended.out + ended.err), arguments


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
def test_parameters_nested_too_deeply(run: Run, tmp_path: Path, output: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 20_000)
    ended = run("apply", "-e", "", "in.pth", output.name, "--params", name)
    assert ended.exit_code == 3
    assert "error[SX223]" in ended.err
    assert "is nested" in ended.err
