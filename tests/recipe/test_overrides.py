"""What is said of a recipe from outside, who sees which values, and what plan, check and run make of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from tests.recipe.conftest import RECIPE, RULES, STATE, Bench
from tests.recipe.test_runs import same_bits


@pytest.fixture
def plain(bench: Bench) -> Bench:
    """The recipe without a report, whose outputs may be replaced."""
    bench.write("recipe.yaml", RECIPE.partition("policy:")[0] + "policy: {replace: always}\n")
    return bench


def scaled(bench: Bench) -> float:
    """The number that weights were multiplied by."""
    found = bench.load("out/all.safetensors")["x.a.weight"]
    factor: float = (found[1, 2] / STATE["a.weight"][1, 2]).item()
    assert torch.equal(found, STATE["a.weight"] * factor)
    return factor


def notes(found: dict[str, Any]) -> str:
    return "; ".join([found["headline"], *found["notes"], *found["help"]])


# --- values ------------------------------------------------------------------------------------------------------


def test_values_from_outside(plain: Bench) -> None:
    plain()
    assert scaled(plain) == 2
    plain("-D", "scale=3")
    assert scaled(plain) == 3
    plain("-D", "main.by=4")
    assert scaled(plain) == 4
    plain.write("params.json", '{"scale": 5, "other": [1]}')
    plain("--params", "params.json")
    assert scaled(plain) == 5
    plain("--params", "params.json", "-D", "scale=6.5")
    assert scaled(plain) == 6.5


def test_values_are_of_the_type_of_the_recipes(plain: Bench) -> None:
    (found,) = plain.refused("-D", "scale=many", code=2)
    assert (found["code"], found["headline"]) == ("SX206", "the parameter `scale` takes a float, and this is text")
    assert found["labels"][0]["text"] == "given anew from outside"
    text = RECIPE.replace("scale: 2.0", "scale: 2.0, name: '12'")
    plain.write("recipe.yaml", text.replace("rules:", "rules:\n  - expect name == '34'").replace("skip", "run"))
    assert plain.codes(code=1) == ["SX317"]
    plain("-D", "name=34")


def test_one_wrong_value_leaves_the_other_parameters_known(plain: Bench) -> None:
    text = RECIPE.replace("scale: 2.0", "scale: 2.0, first: 1, more: 2").replace("skip", "run")
    plain.write("recipe.yaml", text.replace("rules:", "rules:\n  - let total = first + more\n  - expect total == 3"))
    assert plain.codes("-D", "first=many", code=2) == ["SX206"]
    assert plain.codes("-D", "first=many", "-D", "more=[1]", code=2) == ["SX206", "SX206"]


def test_names_that_nothing_uses(plain: Bench) -> None:
    (found,) = plain.refused("-D", "scael=3", code=2)
    assert (found["code"], notes(found)) == (
        "SX205",
        "there is no parameter `scael`; the program declares `by`, `scale`; did you mean `scale`?",
    )
    (found,) = plain.refused("-D", "mian.by=3", code=2)
    assert found["code"] == "SX205"
    assert "did you mean `main.by`?" in notes(found)
    (found,) = plain.refused("-D", "main.bye=3", code=2)
    assert "did you mean `by`?" in notes(found)


def test_a_parameter_that_no_rule_uses(plain: Bench) -> None:
    plain.write("recipe.yaml", RECIPE.replace("params: {scale: 2.0}", "params:\n  scale: 2.0\n  more: 1"))
    (found,) = plain.refused(code=2)
    assert (found["code"], found["headline"]) == ("SX205", "no rule uses the parameter `more`")
    assert (found["labels"][0]["line"], found["labels"][0]["column"]) == (5, 9)


def test_an_input_that_no_rule_reads(plain: Bench) -> None:
    plain.write("recipe.yaml", RECIPE.replace("{main: in.pth}", "\n  main: in.pth\n  other: in.pth"))
    (found,) = plain.refused(code=2)
    assert (found["code"], found["headline"]) == ("SX211", "no rule reads the input `other`")
    assert found["labels"][0]["line"] == 4


def test_a_value_of_a_file(plain: Bench) -> None:
    plain.write("config.json", json.dumps({"net": {"scale": 3.0, "secret": "hunter2"}, "list": [1]}))
    text = RECIPE.replace("scale: 2.0", "scale: {file: config.json, from: net.scale}")
    plain.write("recipe.yaml", text)
    plain()
    assert scaled(plain) == 3
    for path, headline in (
        ("net.scael", "`config.json` has no `net.scael`"),
        ("net.scale.x", "`config.json` has no `net.scale.x`"),
        ("list.0", "`config.json` has no `list.0`"),
    ):
        plain.write("recipe.yaml", text.replace("net.scale", path))
        (found,) = plain.refused(code=2)
        assert (found["code"], found["headline"]) == ("SX712", headline)
        assert "hunter2" not in json.dumps(found)
        assert path != "net.scael" or found["help"] == ["did you mean `net.scale`?"]
        plain("-D", "scale=4.0", "--force")  # the file is not asked
        assert scaled(plain) == 4
    plain.write("recipe.yaml", text)
    for wrong in ("{", "[1]", None):
        if wrong is None:
            (plain.folder / "config.json").unlink()
        else:
            plain.write("config.json", wrong)
        (found,) = plain.refused(code=3)
        assert (found["code"], found["labels"][0]["line"], found["labels"][0]["column"]) == ("SX223", 3, 24)


@pytest.mark.parametrize("by", ["{param: scale}", None])
def test_a_value_of_a_file_that_is_of_another_type_is_not_shown(plain: Bench, by: str | None) -> None:
    plain.write("config.json", json.dumps({"net": {"token": "hunter2"}}))
    text = RECIPE.replace("scale: 2.0", "scale: {file: config.json, from: net.token}")
    if by is None:
        text = text.replace("scale: {file", "by: {file").replace(", with: {by: {param: scale}}", "")
    plain.write("recipe.yaml", text)
    (found,) = plain.refused(code=2)
    assert found["code"] == "SX206"
    assert found["headline"] == "the parameter `by` takes a float, and `net.token` of `config.json` is text"
    assert "hunter2" not in json.dumps(found)
    (found,) = plain.refused("-D", f"{'by' if by is None else 'scale'}=three", code=2)
    assert "three" in json.dumps(found)


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "help"),
    [
        ("main: in.pth", "main: nope.pth", "SX601", 2, ""),
        ("rules:", "target: {like: nope.pth}\nrules:", "SX601", 4, ""),
        ("rules:", "target: {model: 'nope:f'}\nrules:", "SX502", 4, "in the recipe's folder, the working directory"),
        ("rules:", "target: {model: 'nets:net'}\nrules:", "SX503", 4, "`args: {NAME: VALUE}`"),
        ("rules:", "rules:\n  - param more", "SX204", 5, "params: {more: …} in the recipe   or -D more=…"),
        ("rules:", "rules:\n  - input more", "SX210", 5, "inputs: {main: …, more: PATH}"),
        ("{main: in.pth}", "\n  main: in.pth\n  lora: in.pth", "SX209", 7, "did you mean `lora::x`?"),
    ],
)
def test_errors_say_where_in_the_recipe_and_what_to_write_there(
    plain: Bench, old: str, new: str, code: str, line: int, help: str
) -> None:
    plain.write("nets.py", "def net(width): ...\n")
    text = RECIPE.replace(old, new).replace("skip", "run")
    plain.write("recipe.yaml", text.replace("rules:", "rules:\n  - drop? lor::x") if code == "SX209" else text)
    ended = plain.call("run", "recipe.yaml", "--allow-import", "--json")
    found = next(one for one in ended.json["diagnostics"] if one["code"] == code)
    assert found["labels"][0]["line"] == line
    assert help in "".join(found["help"])


def test_a_rule_file_that_is_not_there(plain: Bench) -> None:
    plain.write("recipe.yaml", RECIPE.replace("main.sx", "mian.sx"))
    for command in ("run", "plan", "check"):
        (found,) = plain.refused(command=command, code=3)
        assert (found["code"], found["labels"][0]["line"], found["labels"][0]["column"]) == ("SX222", 5, 12)


# --- inputs, outputs, warnings, memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_a_rule_file_that_is_a_pipe_or_a_device_is_not_read(plain: Bench, name: str) -> None:
    os.mkfifo(plain.folder / "pipe")
    text = f"statex: 1\ninputs: {{main: in.pth}}\nrules: [{{file: {name}}}]\noutputs: out.pth\n"
    plain.write("recipe.yaml", text)
    (found,) = plain.refused(code=3)
    assert (found["code"], found["headline"], found["labels"][0]["line"]) == ("SX222", f"`{name}` is not a file", 3)


def test_other_inputs(plain: Bench) -> None:
    text = "statex: 1\ninputs: {main: missing.pth, ft: missing.pth, runs: [missing.pth]}\nrules:\n"
    text += "  - set **.weight = it + ft::{key} + mean(runs::{key})\n"
    text += "outputs: {path: out.pth}\npolicy: {replace: always}\n"
    plain.write("recipe.yaml", text)
    weights = {key: tensor for key, tensor in STATE.items() if key.endswith("weight")}
    for name, factor in (("a", 1), ("b", 10), ("c", 100), ("d", 300)):
        plain.save(f"{name}.pth", {key: tensor * factor for key, tensor in weights.items()})
    assert plain.codes(code=3) == ["SX601"]
    plain("--in", "main=a.pth", "--in", "ft=b.pth", "--in", "runs=c.pth", "--in", "runs=d.pth")
    found = plain.load("out.pth")
    for key, tensor in weights.items():
        torch.testing.assert_close(found[key], tensor * 211)
    (found_,) = plain.refused("--in", "ftt=b.pth", code=2)
    assert (found_["code"], notes(found_)) == (
        "SX711",
        "`--in ftt=…` names no input of the recipe; it has `main`, `ft` and `runs`; did you mean `ft`?",
    )
    (found_,) = plain.refused("--in", "ft=a.pth", "--in", "ft=b.pth", code=2)
    assert (found_["code"], found_["labels"][0]["line"]) == ("SX711", 2)


def test_other_outputs(plain: Bench) -> None:
    plain("--out", "all=else/where.pth")
    assert sorted(plain.load("else/where.pth")) == sorted(plain.load("else/where.pth"))
    assert not (plain.folder / "out/all.safetensors").exists()
    (found,) = plain.refused("--out", "al=x.pth", code=2)
    assert (found["code"], found["help"]) == ("SX711", ["did you mean `all`?"])
    ended = plain.call("run", "recipe.yaml", "--out", "all=a.pth", "--out", "all=b.pth")
    assert ended.exit_code == 2
    assert "the output `all` is given twice" in " ".join(ended.err.split())


def test_warnings(plain: Bench) -> None:
    plain.write("rules/names.sx", "")
    plain.write("rules/main.sx", "param by: float\nset ** = cast(it, f32) * by\n")
    ended = plain()
    assert "warning[SX902]" in ended.err
    assert plain.codes("-W", "error", code=1)
    assert plain.codes("-W", "SX902=error", code=1) == ["SX902"]
    assert "SX902" not in plain("-W", "SX902=ignore").err
    plain.write("recipe.yaml", RECIPE.replace("unchanged: skip", "replace: always, warnings: error"))
    assert "SX902" in plain.codes(code=1)
    plain("-W", "warn")
    plain("-W", "ignore")
    plain.write("recipe.yaml", RECIPE.replace("unchanged: skip", "replace: always, warnings: {SX902: error}"))
    assert plain.codes(code=1) == ["SX902"]
    plain("-W", "SX902=warn")


def test_memory(plain: Bench) -> None:
    assert plain.codes("--max-memory", "1KB", code=3) == ["SX616"]
    plain.write("recipe.yaml", RECIPE.replace("unchanged: skip", "max_memory: 1KB"))
    assert plain.codes(code=3) == ["SX616"]
    plain("--max-memory", "2GB")


def test_an_include_path(plain: Bench) -> None:
    os.rename(plain.folder / "rules/names.sx", plain.folder / "names.sx")
    (found,) = plain.refused(code=3)
    assert (found["code"], found["labels"][0]["file"]) == ("SX215", "rules/main.sx")
    plain("--include-path", ".")
    assert "x.a.weight" in plain.load("out/all.safetensors")


# --- a folder that nothing may leave -----------------------------------------------------------------------------


@pytest.fixture
def fenced(bench: Bench) -> Bench:
    """The recipe and what it names in a folder `in/`, some of it outside as well."""
    bench.save("in/in.pth", STATE)
    bench.write("in/rules/main.sx", RULES)
    bench.write("in/rules/names.sx", "rename prefix '' -> 'x.'\n")
    return bench


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("main: in.pth", "main: ../in.pth", 2),
        ("scale: 2.0", "scale: {file: ../config.json}", 3),
        ("file: rules/main.sx", "file: ../rules/main.sx", 5),
        ("out/all", "../out/all", 7),
        ("report: out", "report: ../out", 10),
        ("rules:", "target: {like: ../in.pth}\nrules:", 4),
        ("out/all", "/tmp/all", 7),
    ],
)
def test_within(fenced: Bench, old: str, new: str, line: int) -> None:
    fenced.write("in/recipe.yaml", RECIPE)
    fenced("--within", "in", recipe="in/recipe.yaml", command="check")
    fenced.write("in/recipe.yaml", RECIPE.replace(old, new))
    before = fenced.files()
    for command in ("run", "plan", "check"):
        (found,) = fenced.refused("--within", "in", recipe="in/recipe.yaml", command=command, code=2)
        assert (found["code"], found["labels"][0]["line"]) == ("SX710", line)
    assert fenced.files() == before


def test_within_follows_links(fenced: Bench) -> None:
    fenced.write("in/recipe.yaml", RECIPE)
    (fenced.folder / "in/in.pth").unlink()
    (fenced.folder / "in/in.pth").symlink_to("../in.pth")
    assert fenced.codes("--within", "in", recipe="in/recipe.yaml", code=2) == ["SX710"]
    (fenced.folder / "in/in.pth").unlink()
    (fenced.folder / "in/out").symlink_to("..")
    assert fenced.codes("--within", "in", "--in", "main=in.pth", recipe="in/recipe.yaml", code=2) == ["SX710"] * 4


def test_within_sees_what_a_folder_is_read_through(fenced: Bench) -> None:
    fenced.save("elsewhere.safetensors", STATE)
    (fenced.folder / "in/base").mkdir()
    (fenced.folder / "in/base/model.safetensors").symlink_to("../../elsewhere.safetensors")
    fenced.write("in/recipe.yaml", RECIPE.replace("in.pth", "base/"))
    fenced(recipe="in/recipe.yaml")
    (found,) = fenced.refused("--within", "in", "--force", recipe="in/recipe.yaml", code=2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX710", 2)


def test_within_sees_shards_that_are_links(fenced: Bench) -> None:
    fenced.save("elsewhere.safetensors", STATE)
    base = fenced.folder / "in/base"
    base.mkdir()
    (base / "one.safetensors").symlink_to("../../elsewhere.safetensors")
    (base / "unread.safetensors").symlink_to("../../elsewhere.safetensors")
    index = {"weight_map": dict.fromkeys(STATE, "one.safetensors")}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    fenced.write("in/recipe.yaml", RECIPE.replace("in.pth", "base/"))
    fenced(recipe="in/recipe.yaml")
    for command in ("run", "plan", "check"):
        arguments = ["--within", "in", *(["--force"] if command == "run" else [])]
        (found,) = fenced.refused(*arguments, recipe="in/recipe.yaml", command=command, code=2)
        assert (found["code"], found["labels"][0]["line"]) == ("SX710", 2)
        assert "in/base/one.safetensors" in found["headline"]
    (base / "one.safetensors").unlink()
    fenced.save("in/base/one.safetensors", STATE)
    fenced("--within", "in", "--force", recipe="in/recipe.yaml")


@pytest.mark.filterwarnings("ignore:torch.distributed")
@pytest.mark.parametrize("shards", [False, True])
def test_within_sees_what_torch_s_own_folders_are_read_from(fenced: Bench, shards: bool) -> None:
    base = fenced.folder / "in/base"
    statex.convert(STATE, base, "", format="dcp")
    fenced.write("in/recipe.yaml", RECIPE.replace("in.pth", "base/"))
    fenced("--within", "in", recipe="in/recipe.yaml")
    (part,) = base.glob("*.distcp") if shards else [base / ".metadata"]
    part.rename(fenced.folder / "elsewhere")
    part.symlink_to("../../elsewhere")
    assert fenced.codes("--within", "in", "--force", recipe="in/recipe.yaml", code=2) == ["SX710"]


def test_within_sees_files_that_are_copied_through_links(fenced: Bench) -> None:
    model = fenced.folder / "in/models--a/snapshots"
    fenced.save("in/models--a/snapshots/rev/model.safetensors", STATE)
    (fenced.folder / "in/models--a/blobs").mkdir()
    (fenced.folder / "in/models--a/blobs/ff").write_text("{}")
    (model / "rev/config.json").symlink_to("../../blobs/ff")
    text = "statex: 1\ninputs: {main: models--a/snapshots/rev/}\noutputs: {path: %sout/, copy_files: true}\n"
    fenced.write("in/recipe.yaml", text % "")
    fenced("--within", "in", recipe="in/recipe.yaml")
    fenced.write("in/models--a/snapshots/recipe.yaml", (text % "").replace("models--a/snapshots/", ""))
    (found,) = fenced.refused("--within", model, recipe="in/models--a/snapshots/recipe.yaml", code=2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX710", 3)
    assert "config.json" in found["headline"]


def test_names_in_other_files_do_not_leave_their_folder(plain: Bench) -> None:
    plain.write("secret.sx", "drop **")
    for include in ("../secret.sx", str(plain.folder / "secret.sx"), "link.sx"):
        plain.write("rules/names.sx", f"include '{include}'\n")
        if include == "link.sx":
            (plain.folder / "rules/link.sx").symlink_to("../secret.sx")
        for command in ("run", "plan", "check"):
            (found,) = plain.refused(command=command, code=3)
            assert (found["code"], found["labels"][0]["file"]) == ("SX215", "rules/names.sx")
    plain.write("rules/names.sx", "")
    plain.write("base/model.safetensors.index.json", json.dumps({"weight_map": {"a.weight": "../in.safetensors"}}))
    plain.save("in.safetensors", STATE)
    plain.write("recipe.yaml", RECIPE.replace("in.pth", "base/"))
    for command in ("run", "plan", "check"):
        assert plain.codes(command=command, code=3) == ["SX603"]


# --- scopes ------------------------------------------------------------------------------------------------------


def values(bench: Bench, recipe: str, *arguments: object, **files: str) -> dict[str, float]:
    """Run rules over one number per key, and return these."""
    bench.save("in.pth", {key: torch.zeros(()) for key in "abc"})
    for name, text in files.items():
        bench.write(f"{name}.sx", text)
    bench.write(
        "recipe.yaml", f"statex: 1\ninputs: {{main: in.pth}}\n{recipe}\noutputs: out.pth\npolicy: {{replace: always}}\n"
    )
    bench(*arguments)
    return {key: tensor.item() for key, tensor in bench.load("out.pth").items()}


ADDS = "param n: float\nset ::{key} = it + n\n"


def test_a_file_sees_with_or_equal_names(bench: Bench) -> None:
    one = "param n: float\nset a = it + n\n"
    recipe = "params: {n: 1.0, m: 8.0}\nrules: [{file: one.sx}, {file: one.sx, with: {n: 4.0}}, {file: one.sx, with: "
    recipe += "{n: {param: m}}}, 'set b = it + n']"
    assert values(bench, recipe, one=one) == {"a": 13, "b": 1, "c": 0}
    assert values(bench, recipe, "-D", "n=2", one=one) == {"a": 14, "b": 2, "c": 0}
    assert values(bench, recipe, "-D", "one.n=2", one=one) == {"a": 6, "b": 1, "c": 0}


def test_inline_rules_are_one_scope(bench: Bench) -> None:
    recipe = (
        "params: {n: 2.0}\nrules:\n  - let twice = n * 2\n  - {file: one.sx}\n"
        "  - inline: |\n      macro by(k) { set b = it + k }\n      set a = it + twice\n"
        "  - use by(twice + 1)\n  - 'let more = twice + n'\n  - set c = it + more"
    )
    one = "param n: float\nset a = it + 100 * n\n"
    assert values(bench, recipe, one=one) == {"a": 204, "b": 5, "c": 6}


def test_names_of_files_stay_in_them(bench: Bench) -> None:
    one = "let hidden = 3\nmacro secret(k) { set a = it + k }\nuse secret(hidden)\n"
    values(bench, "rules: [{file: one.sx}]", one=one)
    for use in ("set b = it + hidden", "use secret(1)"):
        bench.write(
            "recipe.yaml",
            "statex: 1\ninputs: {main: in.pth}\nrules:\n"
            f"  - let own = 1\n  - {{file: one.sx}}\n  - {use}\noutputs: out.pth\n",
        )
        (found,) = bench.refused("--force", code=1)
        assert found["code"] in ("SX202", "SX211", "SX212"), found
        assert found["labels"][0]["line"] == 6
    bench.write("two.sx", "set b = it + own\n")
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nparams: {n: 1}\nrules:\n"
        "  - let own = n\n  - {file: two.sx}\noutputs: out.pth\n",
    )
    (found,) = bench.refused("--force", code=1)
    assert (found["code"], found["labels"][0]["file"]) == ("SX202", "two.sx")


def test_includes_see_outer_values_of_equal_name(bench: Bench) -> None:
    inner = "param n: float = 50\nparam k: float = 7\nset a = it + n + k\n"
    one = "param n: float\ninclude 'inner.sx'\n"
    assert values(bench, "params: {n: 2.0}\nrules: [{file: one.sx}]", one=one, inner=inner)["a"] == 9
    one = "param n: float\ninclude 'inner.sx' with n = n * 10\n"
    assert values(bench, "params: {n: 2.0}\nrules: [{file: one.sx}]", one=one, inner=inner)["a"] == 27


def test_several_rule_files_on_the_command_line(bench: Bench) -> None:
    values(bench, "rules: []")
    bench.write("one.sx", "param n: float\nlet hidden = 1\nset a = it + n\n")
    bench.write("two.sx", "param n: float = 5\nset b = it + n\n")

    def applied(*rules: str, code: int = 0) -> Any:
        ended = bench.call("apply", *rules, "in.pth", "out.pth", "--force", "--json")
        assert ended.exit_code == code, ended.out
        if code:
            return [(one["code"], one["labels"][0]["file"]) for one in ended.json["diagnostics"]]
        return {key: tensor.item() for key, tensor in bench.load("out.pth").items()}

    assert applied("one.sx", "two.sx", "-D", "n=2") == {"a": 2, "b": 2, "c": 0}
    assert applied("one.sx", "two.sx", "-D", "n=2", "-D", "two.n=3") == {"a": 2, "b": 3, "c": 0}
    assert applied("-e", "let m = 4", "one.sx", "-e", "set c = it + m", "-D", "one.n=2") == {"a": 2, "b": 0, "c": 4}
    assert applied("one.sx", "-e", "set c = it + hidden", "-D", "n=2", code=1) == [("SX202", "<-e>")]


def test_inputs_are_known_to_inline_rules_and_declared_by_files(bench: Bench) -> None:
    bench.save("ft.pth", {key: torch.tensor(float(i)) for i, key in enumerate("abc", 1)})
    recipe = "rules: [{file: one.sx}, 'set b = it + ft::b']\n"
    bench.save("in.pth", {key: torch.zeros(()) for key in "abc"})
    bench.write("one.sx", "input ft\nset a = it + ft::a\ndrop ft::c\n")
    text = f"statex: 1\ninputs: {{main: in.pth, ft: ft.pth}}\n{recipe}outputs: out.pth\n"
    bench.write("recipe.yaml", text)
    bench()
    assert {key: tensor.item() for key, tensor in bench.load("out.pth").items()} == {"a": 1, "b": 2, "c": 0}
    bench.write("one.sx", "set a = it + ft::a\ndrop ft::c\n")
    (found, *_) = bench.refused("--force", code=1)
    assert (found["code"], found["labels"][0]["file"]) == ("SX209", "one.sx")


# --- plan and check ----------------------------------------------------------------------------------------------


def test_plan_says_all_that_is_read_and_written(plain: Bench) -> None:
    plain.write("config.json", '{"scale": 2.0}')
    plain.save("base/model.safetensors", STATE)
    plain.write("base/tokenizer.json", "{}")
    plain.save("like.pth", {"x.a.weight": STATE["a.weight"], "x.b.weight": STATE["b.weight"]})
    plain.write("models.py", "raise SystemExit('run')")
    plain.write(
        "recipe.yaml",
        RECIPE.replace("in.pth", "base/")
        .replace("scale: 2.0", "scale: {file: config.json}")
        .replace("path: out/all.safetensors", "path: out/all/, copy_files: true, target: {model: 'models:Net'}")
        .replace("keep:", "target: {like: like.pth}, keep:"),
    )
    before = plain.files()
    found = plain("--json", command="plan").json
    assert [(one["path"], one["what"]) for one in found["reads"]] == [
        ("base", "the input `main`"),
        ("rules/main.sx", "rules"),
        ("rules/names.sx", "rules, included"),
        ("config.json", "parameters"),
        ("models.py", "target, code"),
        ("like.pth", "target"),
        ("base/tokenizer.json", "copied along"),
    ]
    assert [one["path"] for one in found["writes"]] == ["out/all", "out/body.pth", "out/report.json"]
    assert found["unchecked"] == ["models:Net"]
    text = plain(command="plan").out
    for one in (*found["reads"], *found["writes"]):
        assert one["path"] in text
    assert "not checked against models:Net, which is code: --allow-import imports it" in text
    checked = plain(command="check").out
    assert checked.splitlines()[-1] == "not checked against models:Net, which is code: --allow-import imports it"
    assert plain("--json", command="check").json["unchecked"] == ["models:Net"]
    assert plain.files() == before


@pytest.mark.parametrize("command", ["plan", "check"])
def test_all_but_the_target_is_checked_without_leave(bench: Bench, command: str) -> None:
    bench.write("models.py", "raise SystemExit('run')")
    text = RECIPE.replace("rules:", "target: {model: 'models:Net'}\nrules:")
    bench.write("recipe.yaml", text)
    bench(command=command)
    (found,) = bench.refused(code=2)
    assert (found["code"], found["labels"][0]["line"]) == ("SX507", 4)
    assert bench.codes("--dry-run", code=2) == ["SX507"]
    assert bench.codes("--allow-import", command=command, code=2) == ["SX502"]
    bench.write("recipe.yaml", text.replace("**.weight'}", "**.wait'}"))
    assert bench.codes(command=command, code=1) == ["SX301"]


@pytest.mark.parametrize("command", ["plan", "check"])
def test_outputs_that_are_there_do_not_matter_to_a_plan(bench: Bench, command: str) -> None:
    bench.save("out/all.safetensors", STATE)
    bench.write("out/report.json", "mine")
    before = bench.files()
    bench(command=command)
    assert bench.files() == before
    assert set(bench.codes(code=3)) == {"SX610"}


def test_a_dry_run_writes_nothing(bench: Bench) -> None:
    before = bench.files()
    text = bench("--dry-run").out
    assert bench.files() == before
    assert "all: out/all.safetensors was not written (dry run)" in text


def test_a_plan_keeps_its_lines_whatever_files_are_called(bench: Bench) -> None:
    bench()
    bench.save("out not written.safetensors", bench.load("out/all.safetensors"))
    bench.write("recipe.yaml", RECIPE.replace("rules:", "target: {like: 'out not written.safetensors'}\nrules:"))
    lines = bench(command="plan").out.splitlines()
    assert not any("was not written" in line for line in lines)
    assert any("fits out not written" in line for line in lines)


def test_a_recipes_own_options(bench: Bench) -> None:
    for command in ("plan", "check"):
        ended = bench.call(command, "recipe.yaml", "--like", "in.pth")
        assert ended.exit_code == 2
        assert "a recipe says this itself; `--like` is for rules" in " ".join(ended.err.split())


def test_diagnostics_in_rules_point_into_the_recipe(bench: Bench) -> None:
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nrules:\n  - inline: |\n      drop steps\n      drop stesp\n"
        '  - "set b.weight = cast(no_such)"\noutputs: out.pth\n',
    )
    ended = bench(code=1)
    assert " --> recipe.yaml:7:" in ended.err
    bench.write(
        "recipe.yaml",
        "statex: 1\ninputs: {main: in.pth}\nrules:\n"
        "  - inline: |\n      drop steps\n      drop stesp\noutputs: out.pth\n",
    )
    ended = bench(code=1)
    assert "error[SX301]" in ended.err
    assert " --> recipe.yaml:6:12" in ended.err
    assert "6 |       drop stesp" in ended.err


# --- strangers' recipes ------------------------------------------------------------------------------------------

HOSTILE = {
    "a device as input": "statex: 1\ninputs: {main: /dev/zero}\noutputs: out.pth\n",
    "a device as parameters": "statex: 1\ninputs: {main: in.pth}\nparams: {a: {file: /dev/zero}}\noutputs: out.pth\n",
    "a pipe as parameters": "statex: 1\ninputs: {main: in.pth}\nparams: {a: {file: pipe}}\noutputs: out.pth\n",
    "a pipe as input": "statex: 1\ninputs: {main: pipe}\noutputs: out.pth\n",
    "a pipe as target": "statex: 1\ninputs: {main: in.pth}\ntarget: {like: pipe}\noutputs: out.pth\n",
    "a device as output": "statex: 1\ninputs: {main: in.pth}\noutputs: {path: /dev/full, format: torch}\n",
    "a long name": f"statex: 1\ninputs: {{main: in.pth}}\noutputs: {'x' * 5000}.pth\n",
    "many names": "statex: 1\ninputs: {main: [" + "a, " * 9000 + "a]}\noutputs: out.pth\n",
    "a loop of links": "statex: 1\ninputs: {main: loop.pth}\noutputs: out.pth\n",
    "control characters": 'statex: 1\ninputs: {main: "\\e[31mred\\a.pth"}\noutputs: out.pth\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_recipes_are_refused_at_once(bench: Bench, name: str) -> None:
    bench.write("recipe.yaml", HOSTILE[name])
    os.mkfifo(bench.folder / "pipe")
    (bench.folder / "loop.pth").symlink_to("loop.pth")
    before = bench.files()
    for command in ("run", "plan", "check"):
        began = time.process_time()
        ended = bench.call(command, "recipe.yaml", "--json")
        if command == "run" or name not in ("a device as output", "a long name"):
            assert ended.exit_code in (2, 3), ended.out
        assert time.process_time() - began < 1
        said = ended.out + ended.err + bench.call(command, "recipe.yaml").err
        assert not {char for char in said if ord(char) < 32 or ord(char) == 127} - {"\n"}
    assert bench.files() == before


_CHILD = """
import re, sys
from statex.cli import main
try:
    main(sys.argv[1:])
finally:
    print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


@pytest.mark.parametrize("name", ["a device as parameters", "a pipe as input", "many names"])
def test_hostile_recipes_take_no_memory(bench: Bench, name: str) -> None:
    bench.write("recipe.yaml", HOSTILE[name])
    os.mkfifo(bench.folder / "pipe")
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, "run", "recipe.yaml"],
        capture_output=True,
        text=True,
        cwd=bench.folder,
        timeout=60,
    )
    assert done.returncode in (2, 3)
    assert int(done.stderr.split()[-1]) < 200_000


def test_names_with_control_characters_are_escaped(bench: Bench) -> None:
    name = "od\x1b[31md\x07.pth"
    bench.save(name, STATE)
    quoted = name.replace("\x1b", "\\e").replace("\x07", "\\a")
    text = f'statex: 1\ninputs: {{main: "{quoted}"}}\noutputs: {{"path": "out/{quoted}"}}\nreport: "{quoted}.json"\n'
    bench.write("recipe.yaml", text)
    for command in ("plan", "check", "run"):
        for option in ((), ("--json",)):
            ended = bench.call(command, "recipe.yaml", *option, *(("--force",) if command == "run" else ()))
            assert ended.exit_code == 0, ended.err
            assert not {char for char in ended.out + ended.err if ord(char) < 32 or ord(char) == 127} - {"\n"}
    report = (bench.folder / f"{name}.json").read_bytes()
    assert not {byte for byte in report if byte < 32 or byte > 126} - {10}
    same_bits(torch.load(Path("out") / name), STATE)


@pytest.mark.parametrize(
    "rule",
    ["prefix '' -> \"{$to}.\"", "prefix \"{$to}\" -> b", "suffix a -> \"{$to}\"", "text \"{$to}\" -> b",
     "text { a -> \"{$to}\" }", "text /{$to}/ -> b", "{$to} -> b", "a -> \"{$to}\"", "part a -> \"{$to}\""],
)  # fmt: skip
def test_a_parameter_that_is_only_put_into_names(bench: Bench, rule: str) -> None:
    text = (
        f"statex: 1\ninputs: {{main: in.pth}}\nparams: {{to: a}}\nrules:\n  - |\n    rename {rule}\noutputs: out.pth\n"
    )
    bench.save("in.pth", {"a": torch.zeros(2)})
    bench.write("recipe.yaml", text)
    bench()
    assert sorted(bench.load("out.pth")) == ["a.a" if rule.startswith("prefix ''") else "b" if "-> b" in rule else "a"]
    bench.write("recipe.yaml", text.replace("params: {to: a}", "params: {too: a}"))
    found = bench.refused("--force", code=1)
    assert [(one["code"], one["headline"]) for one in found] == [("SX202", "there is no parameter `to`")]
    assert found[0]["labels"][0]["line"] == 6
