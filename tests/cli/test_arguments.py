"""Command lines: rule files and single rules in their order, what is a path, a recipe or an option."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer import BadParameter

from statex.cli.app import Commands
from statex.cli.arguments import ORDER, CommandArgument, divided, in_order
from tests.cli.conftest import Run
from tests.effort import examples

STATE = {"a.w": torch.full((2, 2), 3.0), "b.w": torch.full((2, 2), 5.0)}


@pytest.fixture(autouse=True)
def checkpoint(run: Run) -> None:
    torch.save(STATE, "net.pth")


def write(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def steps(run: Run, *arguments: str) -> list[tuple[str, int, str]]:
    """Return file, line and text of the statements a plan carries out."""
    ended = run("plan", "--json", *arguments)
    assert (ended.exit_code, ended.err) == (0, ""), ended.out + ended.err
    return [(step["file"], step["line"], step["text"]) for step in ended.json["steps"]]


def refused(run: Run, *arguments: str) -> list[tuple[str, str]]:
    """Return code and headline of all that a plan is refused for."""
    ended = run("plan", "--json", *arguments)
    assert ended.exit_code != 0
    return [(found["code"], found["headline"]) for found in ended.json["diagnostics"]]


def usage(run: Run, *arguments: str) -> str:
    """Return what is said of a command line that is wrong."""
    ended = run(*arguments)
    assert (ended.exit_code, ended.out) == (2, ""), ended.out + ended.err
    return ended.err.splitlines()[-1].removeprefix("Error: ").removeprefix("Invalid value: ")


class TestOrder:
    def test_rule_files_and_single_rules_are_one_program(self, run: Run) -> None:
        write({"one.sx": "rename a.w -> c.w\n", "two.sx": "\nrename d.w -> e.w\n"})
        rules = ["one.sx", "-e", "rename c.w -> d.w", "two.sx", "-e", "rename e.w -> f.w"]
        assert steps(run, *rules, "net.pth") == [
            ("one.sx", 1, "rename a.w -> c.w"),
            ("<-e 1>", 1, "rename c.w -> d.w"),
            ("two.sx", 2, "rename d.w -> e.w"),
            ("<-e 2>", 1, "rename e.w -> f.w"),
        ]
        assert run("apply", *rules, "net.pth", "out.safetensors").exit_code == 0
        assert set(load_file("out.safetensors")) == {"f.w", "b.w"}

    def test_options_stand_anywhere(self, run: Run) -> None:
        write({"one.sx": "rename a.w -> c.w"})
        rule = "rename c.w -> d.w"
        wanted = [("one.sx", 1, "rename a.w -> c.w"), ("<-e>", 1, rule)]
        assert steps(run, "one.sx", "net.pth", "-e", rule) == wanted
        assert steps(run, "--root=", "one.sx", f"-e{rule}", "net.pth", "--keys") == wanted
        assert steps(run, "one.sx", "-e", rule, "--", "net.pth") == wanted

    def test_the_order_is_kept_where_it_matters(self, run: Run) -> None:
        write({"one.sx": "set a.w = it + 1"})
        for arguments, value in (
            (["one.sx", "-e", "set a.w = it * 2"], 8.0),
            (["-e", "set a.w = it * 2", "one.sx"], 7.0),
        ):
            assert run("apply", *arguments, "net.pth", "out.safetensors", "--force").exit_code == 0
            assert load_file("out.safetensors")["a.w"][0, 0] == value

    @pytest.mark.parametrize(
        "written",
        [["-e", "drop a.w"], ["-edrop a.w"], ["-e=drop a.w"], ["-qe", "drop a.w"], ["-qe=drop a.w"]],
    )
    def test_the_forms_of_a_rule(self, run: Run, written: Sequence[str]) -> None:
        assert steps(run, *written, "net.pth") == [("<-e>", 1, "drop a.w")]

    @pytest.mark.parametrize("written", [["-D", "n=2"], ["-Dn=2"], ["-D=n=2"], ["-qDn=2"]])
    def test_the_forms_of_a_definition(self, run: Run, written: Sequence[str]) -> None:
        ended = run("plan", "-e", "param n: int", *written, "net.pth", "--json")
        assert ended.json["parameters"] == {"n": 2}

    @pytest.mark.parametrize("written", [["--in", "more=net.pth"], ["--in=more=net.pth"]])
    def test_the_forms_of_an_input(self, run: Run, written: Sequence[str]) -> None:
        assert run("plan", "-e", "input more\nset a.w = more::b.w\ndrop more::a.w", *written, "net.pth").exit_code == 0

    def test_a_rule_may_look_like_an_option(self, run: Run) -> None:
        ended = run("check", "-e", "-q")
        assert "-->" in ended.err
        assert ended.err.startswith("error[SX1")
        assert steps(run, "-e", "", "-e", "drop a.w", "net.pth") == [("<-e 2>", 1, "drop a.w")]

    def test_dashes_end_the_rules(self, run: Run) -> None:
        write({"one.sx": "drop a.w"})
        torch.save(STATE, "state.sx")
        assert steps(run, "one.sx", "--", "state.sx") == [("one.sx", 1, "drop a.w")]
        assert steps(run, "-e", "drop b.w", "--", "state.sx") == [("<-e>", 1, "drop b.w")]
        assert run("apply", "one.sx", "--", "state.sx", "-out.pth").exit_code == 0
        assert Path("-out.pth").exists()

    def test_a_rule_file_of_another_name(self, run: Run) -> None:
        write({"rules.txt": "drop a.w"})
        assert steps(run, "rules.txt", "net.pth") == [("rules.txt", 1, "drop a.w")]
        assert steps(run, "--", "rules.txt", "net.pth") == [("rules.txt", 1, "drop a.w")]
        said = usage(run, "plan", "-e", "drop a.w", "rules.txt", "net.pth")
        assert said == "2 paths were given; beside -e this takes IN"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["apply", "one.sx"], "0 paths were given; after the rule files this takes IN OUT"),
            (["apply", "one.sx", "-e", "", "net.pth"], "1 path was given; after the rule files this takes IN OUT"),
            (["apply", "a", "b", "c", "d"], "4 paths were given; this takes RULES IN OUT, or beside -e: IN OUT"),
            (["check", "one.sx", "a", "b"], "2 paths were given; after the rule files this takes [IN]"),
            (
                ["apply", "rules.txt", "one.sx", "net.pth", "out.pth"],
                "4 paths were given; this takes RULES IN OUT, or beside -e: IN OUT. Rule files come first, and their "
                "names end in .sx: `one.sx` stands after `rules.txt`",
            ),
            (
                ["plan", "-e", "", "net.pth", "one.sx"],
                "2 paths were given; beside -e this takes IN. Rule files come first, and their names end in .sx: "
                "`one.sx` stands after `net.pth`",
            ),
        ],
    )  # fmt: skip
    def test_wrong_numbers(self, run: Run, arguments: Sequence[str], said: str) -> None:
        assert usage(run, *arguments) == said

    def test_an_option_without_its_value(self, run: Run) -> None:
        assert "requires an argument" in usage(run, "plan", "net.pth", "-e")

    def test_the_checkpoint_first(self, run: Run) -> None:
        write({"one.sx": "drop a.w"})
        ended = run("apply", "net.pth", "one.sx", "out.pth")
        assert ended.exit_code == 3
        assert "help: name the rule file before the checkpoint" in ended.err


class TestRecipesAmongArguments:
    def test_apply_names_the_command_for_it(self, run: Run) -> None:
        for more in ([], ["out.pth"], ["-e", "drop a.w", "out.pth"]):
            said = usage(run, "apply", "r.YAML", *more)
            assert said == "`r.YAML` is a recipe: it is carried out by `statex run r.YAML`"

    def test_run_names_the_command_for_rules(self, run: Run) -> None:
        said = usage(run, "run", "one.sx")
        assert said == "`one.sx` is a rule file: it is applied by `statex apply one.sx IN OUT`"

    @pytest.mark.parametrize("arguments", [["one.sx", "r.yaml"], ["r.yaml", "net.pth"], ["-e", "drop a.w", "r.yml"]])
    def test_it_stands_alone(self, run: Run, arguments: Sequence[str]) -> None:
        for command in ("plan", "check"):
            assert "says all there is to do, and stands alone" in usage(run, command, *arguments)

    def test_after_dashes_it_is_a_path(self, run: Run) -> None:
        torch.save(STATE, "state.yaml")
        assert steps(run, "-e", "drop a.w", "--", "state.yaml") == [("<-e>", 1, "drop a.w")]

    @pytest.mark.parametrize(
        "options", [["--out", "a=b"], ["--allow-import"], ["--within", "."], ["--max-memory", "1GB"]]
    )
    def test_options_of_recipes_are_not_for_rules(self, run: Run, options: Sequence[str]) -> None:
        for command in ("plan", "check"):
            said = usage(run, command, "-e", "drop a.w", "net.pth", *options)
            assert said == f"Invalid value for {options[0]}: `{options[0]}` is for recipes, and none was given"


class TestParameters:
    """Each rule file has its own parameters; `-D` addresses all of equal name, or those of one file."""

    @pytest.fixture(autouse=True)
    def rules(self, checkpoint: None) -> None:
        write({"soup.sx": "param w: int = 0\nset a.w = it + w", "b/next.sx": "param w: int = 0\nset b.w = it + w"})

    def results(self, run: Run, *arguments: str) -> tuple[float, float]:
        ended = run("apply", "soup.sx", "b/next.sx", *arguments, "net.pth", "out.safetensors", "--force")
        assert (ended.exit_code, ended.err) == (0, ""), ended.err
        state = load_file("out.safetensors")
        return float(state["a.w"][0, 0]), float(state["b.w"][0, 0])

    @pytest.mark.parametrize(
        ("options", "added"),
        [
            ([], (0, 0)),
            (["-D", "w=1"], (1, 1)),
            (["-D", "soup.w=1"], (1, 0)),
            (["-D", "next.w=1"], (0, 1)),
            (["-D", "b/next.w=1"], (0, 1)),
            (["-D", "./soup.w=1"], (1, 0)),
            (["-D", "soup.w=1", "-D", "w=2"], (1, 2)),
            (["-D", "w=2", "-D", "soup.w=1"], (1, 2)),
            (["-D", "b/next.w=3", "-D", "next.w=2"], (0, 3)),
            (["-D", "w=1", "-D", "w=2"], (2, 2)),
            (["--params", "p.json"], (7, 7)),
            (["--params", "p.json", "-D", "next.w=1"], (7, 1)),
            (["-D", "w=1", "--params", "p.json"], (1, 1)),
            (["--params", "p.json", "--params", "q.yaml"], (8, 8)),
        ],
    )  # fmt: skip
    def test_values(self, run: Run, options: Sequence[str], added: tuple[int, int]) -> None:
        write({"p.json": json.dumps({"w": 7, "unused": 1}), "q.yaml": "w: 8\n"})
        assert self.results(run, *options) == (3.0 + added[0], 5.0 + added[1])

    def test_the_plan_tells_equal_names_apart(self, run: Run) -> None:
        ended = run("plan", "soup.sx", "b/next.sx", "-D", "next.w=4", "net.pth", "--json")
        assert ended.json["parameters"] == {"w": 0, "next.w": 4}

    @pytest.mark.parametrize(
        ("definition", "headline", "more"),
        [
            ("soop.w=1", "`soop.w` is for a rule file `soop.sx`, and the program has none", "did you mean `soup.w`?"),
            ("soup.x=1", "there is no parameter `x`", "`soup.sx` declares `w`"),
            ("b/next.x=1", "there is no parameter `x`", "`b/next.sx` declares `w`"),
            ("b/soup.w=1", "`b/soup.w` is for a rule file `b/soup.sx`, and the program has none", "`soup.sx`"),
            ("x=1", "there is no parameter `x`", "the program declares `w`"),
            (".w=1", "`.w` is for a rule file `.sx`, and the program has none", "its rule files are"),
        ],
    )
    def test_a_value_that_nothing_takes(self, run: Run, definition: str, headline: str, more: str) -> None:
        ended = run("plan", "soup.sx", "b/next.sx", "-D", definition, "net.pth")
        assert ended.exit_code == 2
        assert ended.err.startswith(f"error[SX205]: {headline}\n")
        assert more in ended.err

    def test_single_rules_have_no_file(self, run: Run) -> None:
        write({"-e.sx": ""})
        assert refused(run, "-e", "param w: int", "-D", "-e.w=1", "net.pth")[0][0] == "SX205"

    def test_two_files_of_one_name(self, run: Run) -> None:
        write({"a/soup.sx": "param w: int = 0\nset b.w = it + w"})
        ended = run("plan", "soup.sx", "a/soup.sx", "-D", "soup.w=1", "net.pth")
        assert ended.exit_code == 2
        assert ended.err.splitlines() == [
            "error[SX205]: `soup.w` could be for 2 rule files: `soup.sx` and `a/soup.sx`",
            "  = help: for one of them: ./soup.w   or a/soup.w",
            "  = help: for every file that declares it: w",
        ]
        for definition, wanted in (("./soup.w=1", {"w": 1, "a/soup.w": 0}), ("a/soup.w=1", {"w": 0, "a/soup.w": 1})):
            found = run("plan", "soup.sx", "a/soup.sx", "-D", definition, "net.pth", "--json").json
            assert found["parameters"] == wanted

    def test_one_file_twice_is_one_file(self, run: Run) -> None:
        assert run("apply", "soup.sx", "soup.sx", "-D", "soup.w=2", "net.pth", "out.safetensors").exit_code == 0
        assert load_file("out.safetensors")["a.w"][0, 0] == 7.0


class TestSharedScope:
    """All rules of `-e` are one scope; each rule file is one of its own."""

    def test_names_macros_and_inputs_go_on(self, run: Run) -> None:
        write({"one.sx": "drop? zz.y"})
        rules = ["-e", "let n = 2", "-e", "macro twice(x) { set {$x} = it * n }", "-e", "input more", "one.sx",
                 "-e", "use twice('a.w')", "-e", "set b.w = more::a.w", "-e", "drop more::b.w"]  # fmt: skip
        assert run("apply", *rules, "net.pth", "out.safetensors", "--in", "more=net.pth").exit_code == 0
        state = load_file("out.safetensors")
        assert (state["a.w"][0, 0], state["b.w"][0, 0]) == (6.0, 3.0)

    @pytest.mark.parametrize(
        ("rules", "code", "headline"),
        [
            (["-e", "let n = 2", "uses.sx"], "SX202", "`n` is not defined"),
            (["defines.sx", "-e", "set a.w = it * n"], "SX202", "`n` is not defined"),
            (["defines.sx", "uses.sx"], "SX202", "`n` is not defined"),
            (["defines.sx", "-e", "use f()"], "SX212", "there is no macro `f` before this place"),
        ],
    )  # fmt: skip
    def test_names_stay_in_their_file(self, run: Run, rules: Sequence[str], code: str, headline: str) -> None:
        write({"defines.sx": "let n = 2\nmacro f() { drop a.w }", "uses.sx": "set a.w = it * n"})
        assert refused(run, *rules, "net.pth") == [(code, headline)]

    def test_equal_names_of_files_are_apart(self, run: Run) -> None:
        write({"one.sx": "let n = 2\nmacro f() { set a.w = it * n }\nuse f()",
               "two.sx": "let n = 3\nmacro f() { set b.w = it * n }\nuse f()"})  # fmt: skip
        assert run("apply", "one.sx", "two.sx", "net.pth", "out.safetensors").exit_code == 0
        state = load_file("out.safetensors")
        assert (state["a.w"][0, 0], state["b.w"][0, 0]) == (6.0, 15.0)

    def test_a_name_is_defined_once(self, run: Run) -> None:
        ended = run("plan", "-e", "let n = 2", "-e", "let n = 3", "net.pth")
        assert ended.exit_code == 1
        assert re.findall(r"<-e \d>:1:5", ended.err) == ["<-e 2>:1:5", "<-e 1>:1:5"]

    def test_an_input_may_be_declared_in_each_file(self, run: Run) -> None:
        write({"one.sx": "input more\nset a.w = more::a.w", "two.sx": "input more\nset b.w = more::b.w"})
        ended = run("plan", "one.sx", "two.sx", "net.pth", "--in", "more=net.pth")
        assert (ended.exit_code, ended.err) == (0, "")

    def test_messages_say_which_rule(self, run: Run) -> None:
        write({"one.sx": "drop zz.a"})
        ended = run("plan", "-e", "drop zz.b", "one.sx", "-e", "drop zz.c", "net.pth", "--concise")
        assert [line.split(":")[0] for line in ended.err.splitlines()] == ["<-e 1>", "one.sx", "<-e 2>"]
        ended = run("plan", "one.sx", "-e", "drop zz.c", "net.pth", "--concise")
        assert [line.split(":")[0] for line in ended.err.splitlines()] == ["one.sx", "<-e>"]


class TestIncludes:
    def test_folders_that_are_named(self, run: Run) -> None:
        write({"main/rules.sx": "include 'part.sx'", "one/part.sx": "include 'sub/x.sx'", "one/sub/x.sx": "drop a.w",
               "two/part.sx": "drop b.w"})  # fmt: skip
        assert refused(run, "main/rules.sx", "net.pth")[0][0] == "SX215"
        rules = ["main/rules.sx", "net.pth"]
        assert steps(run, *rules, "--include-path", "one")[-1] == ("one/sub/x.sx", 1, "drop a.w")
        assert steps(run, *rules, "--include-path", "two", "--include-path", "one")[-1] == (
            "two/part.sx",
            1,
            "drop b.w",
        )
        write({"main/part.sx": "drop? q.w\ndrop a.w"})
        assert steps(run, *rules, "--include-path", "one")[-1] == ("main/part.sx", 2, "drop a.w")

    def test_a_single_rule_includes_from_here(self, run: Run) -> None:
        write({"sub/x.sx": "drop a.w", "sub/y.sx": "include 'x.sx'"})
        assert steps(run, "-e", "include 'sub/y.sx'", "net.pth")[-1] == ("sub/x.sx", 1, "drop a.w")
        assert refused(run, "-e", "include 'x.sx'", "net.pth")[0][0] == "SX215"

    def test_a_named_folder_may_be_reached_by_dots(self, run: Run) -> None:
        write({"main/rules.sx": "include '../lib/part.sx'", "lib/part.sx": "drop a.w"})
        ended = run("plan", "main/rules.sx", "net.pth")
        assert ended.exit_code == 3
        assert "rules.sx:1:9" in ended.err
        assert "allow the folder it is in: `--include-path DIR`" in ended.err
        assert steps(run, "main/rules.sx", "net.pth", "--include-path", "lib")[-1] == ("lib/part.sx", 1, "drop a.w")

    def test_values_for_an_included_file(self, run: Run) -> None:
        write({"rules.sx": "param w: int = 1\nexpect w > 0\ninclude 'lib/soup.sx'\ninclude 'lib/soup.sx' with w = 10",
               "lib/soup.sx": "param w: int = 100\nset a.w = it + w"})  # fmt: skip
        for options, added in ([], 110), (["-D", "w=2"], 12), (["-D", "rules.w=2"], 110), (["-D", "soup.w=3"], 6):
            ended = run("apply", "rules.sx", "net.pth", "out.safetensors", "--force", *options)
            assert (ended.exit_code, ended.err) == (0, "")
            assert load_file("out.safetensors")["a.w"][0, 0] == 3.0 + added

    def test_the_library_is_said_to_be_empty(self, run: Run) -> None:
        said = "there is no `statex:peft/merge`: this version of statex comes without rule files"
        assert refused(run, "statex:peft/merge", "net.pth") == [("SX222", said)]
        assert refused(run, "-e", "include 'statex:peft/merge'", "net.pth") == [("SX215", said)]
        said = usage(run, "plan", "statex:peft/merge")
        assert said == "0 paths were given; after the rule files this takes IN"


# --- the order of arguments, as typer reads them ---------------------------------------------------------------------

_FLAGS = ["-q", "--quiet", "--json", "--force", "--dry-run", "--copy-files"]
_TAKING = ["-D", "--params", "--in", "--root", "--include-path", "--target", "--format", "-W", "--max-memory"]
_TEXTS = st.sampled_from(
    ["a", "b.sx", "x=y", "", "=", "-", "--", "-q", "-e", "drop a.w", "--json", "n=", "statex:z", "ü"]
)
_PLAIN = st.sampled_from(["a", "in.pth", "b.sx", "statex:z", "-", "r.yaml", "", "a b", "=x"])
_PIECE = st.one_of(
    _PLAIN.map(lambda text: [text]),
    st.sampled_from(_FLAGS).map(lambda text: [text]),
    _TEXTS.map(lambda text: ["-e", text]),
    _TEXTS.filter(bool).map(lambda text: [f"-e{text}"]),
    _TEXTS.filter(bool).map(lambda text: [f"-qe{text}"]),
    _TEXTS.map(lambda text: [f"-e={text}"]),
    st.tuples(st.sampled_from(_TAKING), _TEXTS).map(list),
    st.tuples(st.sampled_from(_TAKING[1:]).filter(lambda one: one != "-W"), _TEXTS).map(lambda t: [f"{t[0]}={t[1]}"]),
    st.tuples(st.sampled_from(["-D", "-W", "-qD"]), _TEXTS.filter(bool)).map(lambda t: [t[0] + t[1]]),
)  # fmt: skip


APPLY = Commands({})["apply"]


def parsed(arguments: Sequence[str]) -> tuple[dict[str, Any], list[CommandArgument]]:
    """Return what typer takes a command line of `apply` for, and what we note of its order."""
    context = APPLY.make_context("apply", list(arguments))
    return context.params, context.meta[ORDER]


@settings(deadline=None, max_examples=examples(400))
@given(st.lists(_PIECE, max_size=8), st.none() | st.lists(_TEXTS, max_size=3))
def test_what_we_note_is_what_typer_reads(pieces: Iterable[Sequence[str]], after: Sequence[str] | None) -> None:
    arguments = [text for piece in pieces for text in piece] + (["--", *after] if after is not None else [])
    params, order = parsed(arguments)
    assert [one.text for one in order if one.is_rule] == list(params["expressions"] or [])
    assert [one.text for one in order if not one.is_rule] == list(params["paths"] or [])
    if after is not None:
        assert [one.text for one in order if one.after_dashes] == list(after)


@given(st.lists(_PIECE, max_size=8))
def test_rules_stand_in_the_order_they_are_written(pieces: Sequence[Sequence[str]]) -> None:
    numbered = []
    for number, piece in enumerate(one for one in pieces if one != ["-"]):
        # A number in each makes every text a different one.
        last = piece[-1] + str(number) if piece[-1] not in _FLAGS or len(piece) == 2 else piece[-1]
        numbered.append([*piece[:-1], last])
    _, order = parsed([text for piece in numbered for text in piece])
    places = [int(re.findall(r"\d$", one.text)[0]) for one in order]
    assert places == sorted(places)


@given(st.lists(st.sampled_from(["one.sx", "statex:x", "in.pth", "r.txt"]), max_size=5), st.booleans())
def test_rules_are_what_leads(paths: Sequence[str], single: bool) -> None:
    found = [CommandArgument(text) for text in paths] + ([CommandArgument("drop a", is_rule=True)] if single else [])
    rules = [text for text in paths if text in ("one.sx", "statex:x")]
    leading = next((n for n, text in enumerate(paths) if text not in rules), len(paths))
    fits = len(paths) - (leading if leading or single else 1) == 2
    if not fits:
        with pytest.raises(BadParameter):
            divided(found, ["IN", "OUT"])
        return
    result = divided(found, ["IN", "OUT"])
    assert list(result.paths) == list(paths)[-2:]
    assert [one.text for one in result.rules] == list(paths)[:-2] + (["drop a"] if single else [])


def test_the_command_is_asked_what_its_options_take() -> None:
    command = Commands({})["show"]
    params = command.get_params(command.make_context("show", ["f"]))
    assert in_order(["--keys", "a", "--root", "b", "c"], params) == [CommandArgument("a"), CommandArgument("c")]
