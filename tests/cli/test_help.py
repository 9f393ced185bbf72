"""The help texts: complete, in one voice, with examples that are right."""

from __future__ import annotations

import re
import shlex

import pytest

from statex.cli import app
from statex.cli.arguments import ORDER, divided
from statex.cli.command import Commands
from tests.cli.conftest import Run

NAMES = list(app.CommandGroup.summaries)


@pytest.fixture(params=NAMES)
def command(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def text_of(run: Run, *arguments: str) -> str:
    ended = run(*arguments)
    assert (ended.exit_code, ended.err) == (0, "")
    return ended.out


def test_examples_are_command_lines(run: Run, command: str) -> None:
    """Every line that begins with `statex` names a command, and options and arguments that it takes."""
    text = text_of(run, *command.split(), "--help")
    lines = re.findall(r"^  statex (.*)$", text, re.M)
    assert lines
    for line in lines:
        words = shlex.split(line.partition(" > ")[0])
        name = " ".join(words[:2]) if " ".join(words[:2]) in NAMES else words[0]
        arguments = words[len(name.split()) :]
        assert name == command or name.startswith(f"{command} ")
        context = Commands({})[name].make_context(name, arguments)  # refuses what the command does not take
        if name in ("apply", "plan", "check"):
            paths = ["IN", "OUT"] if name == "apply" else ["IN"]
            found = divided(context.meta[ORDER], paths, recipes=name != "apply", optional=int(name == "check"))
            assert found.rules or found.recipe


def test_what_stands_for_arguments(run: Run) -> None:
    said = {
        name: re.findall(rf"^Usage: .* ({name} \[OPTIONS\].*)$", text_of(run, *name.split(), "-h"), re.M)[0]
        for name in NAMES
    }
    assert said == {
        "apply": "apply [OPTIONS] [RULES…] IN OUT",
        "run": "run [OPTIONS] RECIPE",
        "plan": "plan [OPTIONS] [RULES…] IN | RECIPE",
        "invert": "invert [OPTIONS] [RULES…] IN",
        "check": "check [OPTIONS] [RULES…] [IN] | RECIPE",
        "fmt": "fmt [OPTIONS] PATHS…",
        "migrate": "migrate [OPTIONS] IN OUT | IN --status",
        "migrate new": "migrate new [OPTIONS] TITLE [OLD NEW]",
        "verify": "verify [OPTIONS] FILE",
        "diff": "diff [OPTIONS] A B",
        "infer": "infer [OPTIONS] OLD [NEW]",
        "show": "show [OPTIONS] FILE [PATTERN…]",
        "schema": "schema [OPTIONS]",
        "ops": "ops [OPTIONS] [NAME]",
        "explain": "explain [OPTIONS] [CODE]",
    }


def test_every_option_and_argument_is_explained(command: str) -> None:
    made = Commands({})[command]
    for parameter in made.get_params(made.make_context(command, [], resilient_parsing=True)):
        sentence = getattr(parameter, "help", None)
        assert sentence, parameter.name
        assert sentence[0].isupper(), sentence
        assert sentence[-1] == ".", sentence
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.metavar, parameter.name


def test_no_words_of_the_implementation(run: Run, command: str) -> None:
    text = text_of(run, *command.split(), "--help")
    for word in ("list[", "<str>", "<path>", "TEXT", "None", "ctx", "\b", "..."):
        assert word not in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_list_of_commands_is_whole_sentences(run: Run) -> None:
    listed = re.findall(r"^  (\w+(?: \w+)?)  +(.*)$", text_of(run, "--help").partition("Commands:")[2], re.M)
    assert [name for name, _ in listed] == NAMES
    for name, sentence in listed:
        assert re.fullmatch(r"[A-Z].*[^.]\.", sentence), sentence
        assert " ".join(Commands({})[name].help.split()).startswith(sentence)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("aply", "apply"), ("pln", "plan"), ("chek", "check"), ("verfy", "verify"), ("shcema", "schema"), ("rn", "run")],
)
def test_a_misspelt_command(run: Run, misspelt: str, meant: str) -> None:
    ended = run(misspelt, "x")
    assert (ended.exit_code, ended.out) == (2, "")
    assert f"No such command '{misspelt}'" in ended.err
    assert f"'{meant}'" in ended.err.partition("Did you mean")[2]


def test_a_misspelt_option(run: Run) -> None:
    ended = run("apply", "--dry-rum", "a", "b", "c")
    assert ended.exit_code == 2
    assert "--dry-run" in ended.err


def test_no_command(run: Run) -> None:
    ended = run()
    assert ended.exit_code == 2
    assert "Commands:" in ended.out + ended.err


def test_examples_of_schema(run: Run) -> None:
    text = text_of(run, "schema", "--help")
    assert "\n  # yaml-language-server: $schema=recipe.schema.json\n" in text
