"""Recipes read: their values with places, every error at its place, and diagnostics of the rules in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from statex import StatexError
from statex.core.source import Source, Span
from statex.diagnostics import Diagnostic
from statex.diagnostics.render import render_concise
from statex.grammar.parser import parse
from statex.recipe.check import ERRORS
from statex.recipe.model import FromFile, Recipe, Reference, RuleFile, RuleText, Value
from statex.recipe.read import LARGEST, parse_recipe, read_recipe

DATA = Path(__file__).parent / "data"
HEAD = "statex: 1\ninputs: {main: in.pth}\noutputs: out.pth\n"


def parsed(text: str) -> Recipe:
    return parse_recipe(Source("recipe.yaml", text))


def errors(text: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(StatexError) as caught:
        parsed(text)
    return caught.value.diagnostics


def concise(text: str) -> list[str]:
    """Return errors as `line:column: code headline`."""
    said = (render_concise(found).removeprefix("recipe.yaml:") for found in errors(text))
    return [re.sub(r"error\[(SX\d+)\]:", r"\1", one) for one in said]


def helps(found: Diagnostic) -> list[str]:
    return [note.text for note in found.notes if note.kind == "help"]


def test_the_smallest_recipe() -> None:
    recipe = read_recipe(DATA / "smallest.yaml")
    assert list(recipe.inputs) == ["main"]
    (file,) = recipe.inputs["main"].files
    assert (file.path, file.root, file.format, file.sha256) == ("in.pth", None, None, None)
    assert not recipe.inputs["main"].is_family
    (output,) = recipe.outputs.values()
    assert (output.name, output.path, output.keep, output.target, output.copy_files) == (
        "main",
        "out.pth",
        (),
        None,
        False,
    )
    assert (recipe.rules, dict(recipe.params), recipe.target, recipe.report) == ((), {}, None, None)
    policy = recipe.policy
    assert (policy.warnings, dict(policy.codes), policy.max_memory) == ("warn", {}, None)
    assert (policy.unchanged, policy.replace, policy.digests) == ("run", "own", None)
    assert recipe.folder == DATA.as_posix()
    assert recipe.resolve("in.pth") == str(DATA / "in.pth")


def test_inputs_and_params() -> None:
    recipe = read_recipe(DATA / "full.yaml")
    assert list(recipe.inputs) == ["main", "runs", "lora"]
    runs = recipe.inputs["runs"]
    assert runs.is_family
    assert [(f.path, f.root, f.format) for f in runs.files] == [
        ("runs/1.pth", None, None),
        ("runs/2.pth", "state_dict", "torch"),
    ]
    (lora,) = recipe.inputs["lora"].files
    assert lora.root == ""
    assert lora.sha256 == {"adapter_model.safetensors": "0123456789abcdef" * 4}
    params = {name: p.value for name, p in recipe.params.items() if isinstance(p, Value)}
    assert params == {"classes": 5, "drop": (3, 7, (11,)), "scale": 1e-5, "name": "5", "none": None}
    files = {name: (p.file, p.key) for name, p in recipe.params.items() if isinstance(p, FromFile)}
    assert files == {
        "heads": ("base/config.json", "text_config.num_attention_heads"),
        "kv_heads": ("base/config.json", "kv_heads"),
    }


def test_rules_target_outputs_and_policy() -> None:
    recipe = read_recipe(DATA / "full.yaml")
    statement, file, block = recipe.rules
    assert isinstance(statement, RuleText)
    assert statement.source.text == "drop **.inv_freq"
    assert isinstance(file, RuleFile)
    assert file.path == "rules/soup.sx"
    w, n = file.values["w"], file.values["n"]
    assert isinstance(w, Value)
    assert isinstance(n, Reference)
    assert (w.value, n.name) == (0.6, "classes")
    assert isinstance(block, RuleText)
    assert block.source.text == "set ** = cast(bf16) where is_floating_point(it)\nrename prefix 'a' -> 'b'\n"
    assert recipe.target is not None
    assert (recipe.target.model, recipe.target.like, list(recipe.target.args)) == (
        "models:net",
        None,
        ["classes", "deep"],
    )
    full, head, parts = recipe.outputs.values()
    assert (full.path, full.format, full.shard_size, full.copy_files) == ("out/model/", "safetensors", 2 * 10**9, True)
    assert ([k.text for k in head.keep], [k.text for k in parts.keep]) == (["head.**"], ["a.*", "b.**"])
    assert head.target is not None
    assert (head.target.like, parts.shard_size) == ("head.pth", 10**6)
    assert (head.stem, parts.stem) == (None, "model.fp16")
    assert (full.update_config, head.update_config) == (False, True)
    policy = recipe.policy
    assert (policy.codes, policy.max_memory) == ({"SX902": "error", "SX901": "ignore"}, 4 << 30)
    assert (policy.verify_written, policy.check_input, policy.unchanged) == (True, True, "skip")
    assert (policy.replace, policy.digests, recipe.report) == ("never", "sha256", "out/report.json")


def test_every_value_has_its_place() -> None:
    recipe = read_recipe(DATA / "full.yaml")
    runs, lora = recipe.inputs["runs"], recipe.inputs["lora"].files[0]
    file = recipe.rules[1]
    assert isinstance(file, RuleFile)
    assert recipe.target is not None
    full = recipe.outputs["full"]
    placed = {
        runs.span: "runs",
        runs.files[0].at("path"): "runs/1.pth",
        runs.files[1].at("root"): "state_dict",
        lora.at("path"): "adapter/",
        recipe.params["classes"].span: "5",
        recipe.params["heads"].at("from"): "text_config.num_attention_heads",
        file.at("file"): "rules/soup.sx",
        file.values["w"].span: "0.6",
        file.values["n"].at("param"): "classes",
        recipe.target.at("model"): "'models:net'",
        recipe.target.args["deep"].span: "true",
        full.span: "full",
        full.at("shard_size"): "2GB",
        full.at("keep"): "full",
        recipe.outputs["head"].keep[0].outer and Span(recipe.outputs["head"].keep[0], 0, 7).shown: "head.**",
        recipe.policy.at("max_memory"): "4 GiB",
        recipe.at("report"): "out/report.json",
    }
    for span, text in placed.items():
        assert isinstance(span, Span)
        assert (span.text, span.source) == (text, recipe.source)


def test_one_output_without_a_name() -> None:
    recipe = read_recipe(DATA / "one_output.yaml")
    (output,) = recipe.outputs.values()
    assert (output.name, output.path, output.format, output.span.text) == ("main", "out/", "dcp", "outputs")
    assert output.at("format").text == "dcp"
    (rule,) = recipe.rules
    assert isinstance(rule, RuleText)
    assert rule.source.text == "rename prefix '' -> 'ds'"
    assert recipe.policy.warnings == "error"
    assert recipe.inputs["main"].files[0].sha256 == "0123456789abcdef" * 4


@pytest.mark.parametrize("path", sorted(DATA.glob("*.yaml")), ids=lambda path: path.name)
def test_rules_of_the_examples_are_right(path: Path) -> None:
    for rule in read_recipe(path).rules:
        if isinstance(rule, RuleText):
            assert parse(rule.source).statements


def test_paths_of_a_recipe_in_the_working_directory() -> None:
    assert (parsed(HEAD).folder, parsed(HEAD).resolve("../a")) == (".", "../a")


def test_all_errors_at_once_and_in_order() -> None:
    text = dedent(
        """\
        statx: 2
        inputs:
          mian: [a.pth, 5]
          target: {pth: x, sha256: abc}
        rules:
          - rename a: b
          - {file: a.sx, inline: b}
        outputs: {path: out, shard_size: 0GB, copyfiles: true}
        """
    )
    assert concise(text) == [
        "1:1: SX702 unknown key `statx` in the recipe",
        "2:1: SX705 `inputs` has no `main`, the checkpoint that the rules change",
        "3:17: SX704 `inputs.mian[1]` must be a path or a mapping, not the number 5",
        "4:3: SX704 `inputs` cannot use the name `target`, which rules use for the target",
        "4:12: SX702 unknown key `pth` in `inputs.target`",
        "4:28: SX704 `inputs.target.sha256` must be 64 hexadecimal digits, not the text `abc`",
        "6:5: SX704 `rules[0]` is read as a mapping, because of the `:` in it; quote the rule",
        "7:18: SX704 `rules[1]` takes `file` or `inline`, and has both",
        "8:34: SX704 `outputs.shard_size` must be a size such as 2GiB, 500MB or a number of bytes, not the text `0GB`",
        "8:39: SX702 unknown key `copyfiles` in `outputs`",
    ]
    found = {d.headline.split("`")[1]: helps(d) for d in errors(text)}
    assert found["statx"] == ["did you mean `statex`?"]
    assert found["pth"] == ["did you mean `path`?"]
    assert found["copyfiles"] == ["did you mean `copy_files`?"]
    assert found["rules[0]"] == ['- "rename a: b"']


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("params: {a b: 1}", "4:10: SX704 `a b` in `params` must be a name made of letters, digits and `_`"),
        ('params: {"a\\n": 1}', "4:10: SX704 `a\\x0a` in `params` must be a name made of letters, digits and `_`"),
        ("params: {a: {x: 1, file: f}}", "4:14: SX702 unknown key `x` in `params.a`"),
        ("params: {a: [{}]}", "4:14: SX704 `params.a[0]` must be a number, text, true, false, null or a list of "
         "these, not an empty mapping"),
        ("params: {a: [[[1]]]}",
         "4:15: SX704 `params.a[0][0]` must be a number, text, true, false or null, not a list"),
        ("params: {a: {file: f, from: ''}}",
         "4:29: SX704 `params.a.from` must be the dotted path of a key, not an empty text"),
        ("params: [a]", "4:9: SX704 `params` must be a mapping of names to values, not a list"),
        ("rules: drop a", "4:8: SX704 `rules` must be a list of rules, not the text `drop a`"),
        ("rules: [1]", "4:9: SX704 `rules[0]` must be a rule as text, `{file: PATH}` or `{inline: TEXT}`, not the "
         "number 1"),
        ("rules:", "4:7: SX704 `rules` must be a list of rules, not nothing (null)"),
        ("rules: [{}]", "4:9: SX705 `rules[0]` needs one of `file` or `inline`"),
        ("rules: [{inline: a, with: {}}]", "4:21: SX704 `rules[0]` takes `with` only beside `file`"),
        ("rules: [{file: a, with: {b: {param: c}}}]", "4:37: SX707 the recipe has no parameter `c`"),
        ("params: {cc: 1}\nrules: [{file: a, with: {b: {param: c}}}]", "5:37: SX707 the recipe has no parameter `c`"),
        ('rules: [{file: "a\\0"}]', "4:16: SX704 `rules[0].file` must be a path, not the text `a\\x00`"),
        ("target: {}", "4:1: SX705 `target` needs one of `model` or `like`"),
        ("target: {model: 'm:f', like: x}", "4:24: SX704 `target` takes `model` or `like`, and has both"),
        ("target: {like: x, args: {}}", "4:19: SX704 `target` takes `args` only beside `model`"),
        ("target: {model: models}", "4:17: SX704 `target.model` must be `module:callable`, not the text `models`"),
        ("target: x.pth", "4:9: SX704 `target` must be a mapping with `model` or `like`, not the text `x.pth`"),
        ("policy: {warnings: off}", "4:20: SX704 `policy.warnings` must be error, warn, or a mapping of codes to "
         "error, warn or ignore, not the text `off`"),
        ("policy: {warnings: {SX999: warn}}",
         "4:21: SX704 `policy.warnings` has `SX999`, which is not the code of a warning"),
        ("policy: {warnings: {SX301: warn}}",
         "4:21: SX704 `SX301` in `policy.warnings` must be the code of a warning, such as SX902"),
        ("policy: {warnings: {SX902: no}}",
         "4:28: SX704 `policy.warnings.SX902` must be error, warn or ignore, not the text `no`"),
        ("policy: {max_memory: 1.5}", "4:22: SX704 `policy.max_memory` must be a size such as 2GiB, 500MB or a "
         "number of bytes, not the number 1.5"),
        ("policy: {max_memory: 0}", "4:22: SX704 `policy.max_memory` must be a size such as 2GiB, 500MB or a number "
         "of bytes, not the number 0"),
        ("policy: {max_memory: true}", "4:22: SX704 `policy.max_memory` must be a size such as 2GiB, 500MB or a "
         "number of bytes, not true"),
        ("policy: {verify_written: yes}",
         "4:26: SX704 `policy.verify_written` must be true or false, not the text `yes`"),
        ("policy: {unchanged: never}", "4:21: SX704 `policy.unchanged` must be run or skip, not the text `never`"),
        ("report: ''", "4:9: SX704 `report` must be a path, not an empty text"),
        ("report: 5", "4:9: SX704 `report` must be a path, not the number 5"),
    ],
)  # fmt: skip
def test_errors(added: str, said: str) -> None:
    assert concise(HEAD + added) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: SX705 the recipe is empty"),
        ("- a", "1:1: SX704 a recipe must be a mapping that begins with `statex: 1`, not a list"),
        ("text", "1:1: SX704 a recipe must be a mapping that begins with `statex: 1`, not the text `text`"),
        (HEAD.replace("1", "2", 1),
         "1:9: SX704 `statex` must be 1, the version of recipes that this statex reads, not the number 2"),
        (HEAD.replace("1", "true", 1),
         "1:9: SX704 `statex` must be 1, the version of recipes that this statex reads, not true"),
        (HEAD.replace("1", "'1'", 1),
         "1:9: SX704 `statex` must be 1, the version of recipes that this statex reads, not the text `1`"),
        (HEAD.replace("1", "1.0", 1),
         "1:9: SX704 `statex` must be 1, the version of recipes that this statex reads, not the number 1.0"),
        (HEAD.replace("in.pth", "[a, b]"),
         "2:16: SX704 `inputs` takes one path as `main`, not a list: the rules change one checkpoint"),
        (HEAD.replace("in.pth", "a, b: []"),
         "2:22: SX704 `inputs.b` must be a path, a mapping, or a list of these, which is a family, not an empty list"),
        (HEAD.replace("{main: in.pth}", "in.pth"),
         "2:9: SX704 `inputs` must be a mapping of names to checkpoints, not the text `in.pth`"),
        (HEAD.replace("out.pth", "{}"), "3:10: SX704 `outputs` must be a path, a mapping with `path`, or a mapping "
         "of names to these, not an empty mapping"),
        (HEAD.replace("out.pth", "{a: {format: torch}}"), "3:11: SX705 `outputs.a` has no `path`"),
        (HEAD.replace("out.pth", "{a: {path: x, keep: []}}"),
         "3:30: SX704 `outputs.a.keep` must be a pattern or a list of patterns, not an empty list"),
        (HEAD.replace("out.pth", "{a: {path: x, format: pth}}"),
         "3:32: SX704 `outputs.a.format` must be torch, safetensors, dcp or npz, not the text `pth`"),
        (HEAD + "params: {a: 1}\nparams: {b: 2}\n", "5:1: SX703 the key `params` is given twice"),
        (HEAD + "rules:\n- *a\n", "5:3: SX701 aliases (`*name`) are not read"),
        (HEAD + "rules:\n- !!python/name:os.system\n", "5:3: SX701 tags (`!name`) are not read"),
        (HEAD + "rules: [\n", "5:1: SX701 this is not valid YAML: did not find expected node content while parsing a "
         "flow node"),
    ],
)  # fmt: skip
def test_errors_of_the_whole(text: str, said: str) -> None:
    assert concise(text) == [said]


def test_a_duplicate_key_names_both_places() -> None:
    (found,) = errors(HEAD + "report: a\nreport: b\n")
    assert [(label.span.line, label.text) for label in found.labels] == [(5, ""), (4, "given here first")]


@pytest.mark.parametrize(
    ("rule", "help"),
    [
        ("rename a: b", '- "rename a: b"'),
        ('drop "x: y"', "- 'drop \"x: y\"'"),
        ("drop:", '- "drop:"'),
        ("drop a: |\n      b", "write it as a block: `- |`, and the rule indented in the next line"),
    ],
)
def test_a_rule_that_yaml_takes_for_a_mapping(rule: str, help: str) -> None:
    (found,) = errors(f"{HEAD}rules:\n  - {rule}\n")
    assert found.headline.endswith("is read as a mapping, because of the `:` in it; quote the rule")
    assert helps(found) == [help]
    if help.startswith("- "):
        assert yaml.safe_load(help) == [rule]


@pytest.mark.parametrize(
    ("added", "notes", "help"),
    [
        ("rules: drop a", [], ["rules:\n  - RULE"]),
        ("rules: |\n  drop a", [], ["put the block into a list: `- |` in a line of its own, and the rules indented "
                                    "below it"]),
        ("rules: [1]", [], []),
        ("rules: [../rules/a.sx]", [], ["{file: ../rules/a.sx}"]),
        ("rules: ['statex:llama']", [], ["{file: statex:llama}"]),
        ("target: base/", [], ["target: {like: base/}"]),
        ("target: 'models:net'", [], ["target: {model: 'models:net'}"]),
        ("target: [a]", [], []),
        ("outputs: {a: {path: x, target: base/}}", [], ["target: {like: base/}"]),
        ("inputs: base/", [], ["inputs: {main: base/}"]),
        (f"inputs: {{main: {{path: x, sha256: {'a' * 63}}}}}", ["it has 63 of them"], []),
        (f"inputs: {{main: {{path: x, sha256: {{y: {'a' * 63}}}}}}}", ["it has 63 of them"], []),
        ("inputs: {main: {path: x, sha256: none}}", [], []),
    ],
)  # fmt: skip
def test_what_helps(added: str, notes: list[str], help: list[str]) -> None:
    name = added.partition(":")[0]
    head = "".join(line for line in HEAD.splitlines(keepends=True) if not line.startswith(f"{name}:"))
    (found,) = errors(head + added)
    assert (found.code.id, helps(found)) == ("SX704", help)
    assert [line.text for line in found.notes if line.kind == "note"] == notes


def test_a_misspelt_key_is_not_said_to_be_missing_too() -> None:
    assert concise(HEAD + "rules:\n- inlin: drop a\n") == ["5:3: SX702 unknown key `inlin` in `rules[0]`"]
    assert concise(HEAD.replace("inputs", "input")) == ["2:1: SX702 unknown key `input` in the recipe"]


def test_not_more_errors_than_anyone_reads() -> None:
    many = "".join(f"k{number}: 1\n" for number in range(100))
    found = errors(HEAD + many)
    assert len(found) == ERRORS
    assert [d.span and d.span.line for d in found] == list(range(4, 4 + ERRORS))


def test_long_and_strange_names_are_shortened_and_escaped() -> None:
    (found,) = errors(f'{HEAD}"x\\e[31m\\u202e{"k" * 500}": 1\n')
    shown = str(StatexError([found]))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "unknown key `x\\x1b[31m\\u202e" in shown
    assert max(map(len, shown.splitlines())) < 150


RULES = "drop a\ndrop b c\n"
"""The error is at `c`."""


@pytest.mark.parametrize(
    ("written", "line", "column"),
    [
        ("- |\n  drop a\n  drop b c\n", 6, 10),
        ("- |4-\n      drop a\n      drop b c\n", 6, 14),
        ("- inline: |+\n    drop a\n    drop b c\n\n", 6, 12),
        ('- "drop \\x61\\ndrop b c"\n', 4, 22),
        ('- "drop a;\\\n   drop b c"\n', 5, 11),
        ("- 'drop a\n\n  drop b c'\n", 6, 10),
        ("- drop a\n\n  drop b c\n", 6, 10),
        ("- >\n  drop a\n\n  drop b c\n", 7, 10),
        ("- {inline: drop b c}\n", 4, 19),
        ("- |\r\n  drop a\r\n  drop b c\r\n", 6, 10),
    ],
)
def test_errors_in_rules_point_into_the_recipe(written: str, line: int, column: int) -> None:
    recipe = parsed(f"statex: 1\ninputs: {{main: in.pth}}\nrules:\n{written}outputs: out.pth\n")
    (rule,) = recipe.rules
    assert isinstance(rule, RuleText)
    with pytest.raises(StatexError) as caught:
        parse(rule.source)
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)
    shown = str(caught.value).splitlines()
    assert shown[1] == f" --> recipe.yaml:{line}:{column}"
    snippet, marks = next((a, b) for a, b in pairwise(shown) if b.lstrip(" |").startswith("^"))
    assert snippet.startswith(f" {line} | ")
    assert snippet[marks.index("^")] == "c"


def styled(rule: str, style: str | None) -> str:
    return yaml.dump([rule], default_style=style, allow_unicode=True, width=30)


@given(
    rules=st.lists(st.text(st.sampled_from("abc {}*#'\"\\|->é🙂\n:"), min_size=1, max_size=40), min_size=1, max_size=4),
    styles=st.lists(st.sampled_from([None, "'", '"', "|", ">"]), min_size=4, max_size=4),
)
def test_every_character_of_a_rule_has_its_place(rules: Sequence[str], styles: Sequence[str | None]) -> None:
    quoted = ['"' if style is None and not isinstance(yaml.safe_load(styled(r, style))[0], str) else style
              for r, style in zip(rules, styles, strict=False)]  # fmt: skip
    body = "".join(styled(rule, style) for rule, style in zip(rules, quoted, strict=True))
    body = "".join(line for line in body.splitlines(keepends=True) if line != "...\n")
    text = HEAD + "rules:\n" + body
    recipe = parsed(text)
    assert [rule.source.text for rule in recipe.rules if isinstance(rule, RuleText)] == list(rules)
    for rule in recipe.rules:
        assert isinstance(rule, RuleText)
        for number, character in enumerate(rule.source.text):
            span = Span(rule.source, number, number + 1)
            assert span.shown.source is recipe.source
            written = span.shown.text
            if character in " \n":
                assert written[0] in " \n\\"
            else:
                assert written.startswith((character, "\\"))


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "large", "latin"])
def test_recipes_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "recipe.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "large":
        path.write_text("#" * (LARGEST + 1))
    elif kind == "latin":
        path.write_bytes(b"statex: 1 # \xe9")
    with pytest.raises(StatexError) as caught:
        read_recipe(path)
    (found,) = caught.value.diagnostics
    assert (found.code.id, caught.value.exit_code) == ("SX706", 3)
    said = {
        "missing": "cannot be read: No such file or directory",
        "folder": "is a folder",
        "pipe": "is not a regular file",
        "device": "is not a regular file",
        "large": "is too large: more than 1,048,576 bytes",
        "latin": "is Latin-1 text, not UTF-8 (byte 12, `é` in line 1)",
    }
    assert found.headline == f"the recipe `{path}` {said[kind]}"


def test_a_null_character_in_the_path() -> None:
    with pytest.raises(StatexError) as caught:
        read_recipe("a\0b")
    assert "\0" not in str(caught.value)


def test_errors_of_a_recipe_are_wrong_usage() -> None:
    with pytest.raises(StatexError) as caught:
        parsed("statex: 1")
    assert caught.value.exit_code == 2


def test_a_recipe_with_a_byte_order_mark() -> None:
    recipe = parsed("\ufeff" + HEAD)
    assert recipe.outputs["main"].at("path").text == "out.pth"


HOSTILE = {
    "aliases": "a: &a [x]\n"
    + "".join(f"b{i}: &b{i} [{', '.join(f'*b{i - 1}' for _ in range(9))}]\n" for i in range(1, 99)),
    "tags": "a: !!python/object/apply:os.system ['touch owned']\n",
    "deep": "[" * 1_000_000,
    "deep mappings": "{a: " * 250_000,
    "many values": "[" + "a," * 500_000,
    "many lines": "- a\n" * 250_000,
    "long key": "? " + "k" * 1_000_000 + "\n: 1",
    "long plain key": "k" * 1_000_000 + ": 1",
    "long text": "statex: " + "x" * 1_000_000,
    "long number": "statex: " + "1" * 1_000_000,
    "blanks": "statex: a" + " " * 1_000_000 + "b",
    "line ends": "statex: 'a" + "\n" * 1_000_000 + "'",
    "unknown keys": "".join(f"key{i}: 1\n" for i in range(9_900)),
    "wrong rules": HEAD + "rules:\n" + "- {fle: x}\n" * 6_000,
    "blocks": HEAD + "rules:\n" + "- |\n  a\n" * 19_000,
    "one block": HEAD + "rules:\n- |\n" + "  drop a\n" * 100_000,
    "escapes": HEAD + 'rules:\n- "' + "\\x41" * 250_000 + '"',
    "folds": HEAD + "rules:\n- >\n" + "  x\n\n" * 190_000,
    "blanks in a rule": HEAD + "rules:\n- 'a" + " " * 1_000_000 + "b'",
    "brackets": "a: {" * 200_000 + "}" * 200_000,
    "directives": "%A b\n" * 200_000,
}

WATCHED = r"""
import re, sys, time
from statex.diagnostics import StatexError
from statex.recipe.read import read_recipe
started = time.process_time()
for path in sys.argv[1:]:
    begun = time.process_time()
    try:
        read_recipe(path)
        said = "read"
    except StatexError as error:
        said = str(error) and error.diagnostics[0].code.id
    print(said, time.process_time() - begun, re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])
"""


def test_hostile_recipes_are_refused_at_once_and_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, text in HOSTILE.items():
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, paths)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = {name: line.split() for name, line in zip(HOSTILE, done.stdout.splitlines(), strict=True)}
    harmless = {"blocks", "one block", "escapes", "folds", "blanks in a rule"}
    assert {name for name, (code, _, _) in said.items() if code == "read"} == harmless
    # Seconds of the processor: what grows with the square of the length would take minutes.
    assert max(float(seconds) for _, seconds, _ in said.values()) < 3
    assert max(int(kilobytes) for _, _, kilobytes in said.values()) < 200_000
    assert not (tmp_path / "owned").exists()


def test_reading_imports_no_torch() -> None:
    loaded = "import statex.recipe.read, sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "lark", "yaml"}


def test_the_declaration_leaves_patterns_to_us() -> None:
    # With a compiled pattern in a `Meta`, processes end now and then in a segmentation fault.
    text = (Path(__file__).parents[2] / "statex" / "recipe" / "declaration.py").read_text()
    assert not re.search(r"(?<!`)Meta\([^)]*pattern=", text)


def test_what_the_check_overlooks_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statex.recipe.read.check", lambda source, node: ())
    (found,) = errors(HEAD + "report: 5")
    assert found.code.id == "SX704"
    assert "$.report" in found.headline


def test_paths_are_shown_short_where_no_link_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    (tmp_path / "link").symlink_to("deep/er")
    plain, linked = (parse_recipe(Source(f"{name}/recipe.yaml", HEAD)) for name in ("plain", "link"))
    assert [plain.resolve(path) for path in ("a", "../base/", "../x.pth", "..", "../", ".", "./", "/tmp/a/")] == [
        "plain/a", "base/", "x.pth", ".", "./", "plain", "plain/", "/tmp/a/",
    ]  # fmt: skip
    assert linked.resolve("../x.pth") == "link/../x.pth"
    assert linked.resolve("x.pth") == "link/x.pth"
