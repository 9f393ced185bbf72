"""Turns a command line into the one value that is carried out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from statex.cli import options
from statex.cli.arguments import ORDER, CommandArgument, Divided, divided
from statex.core.paths import Address, path_from_text
from statex.core.sizes import parse_size
from statex.diagnostics.codes import all_codes, find_code
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.session.warnings import ALL, WAYS

if TYPE_CHECKING:
    from statex.dsl.expressions.parameters import Given
    from statex.dsl.parts import Outside, ProgramPart
    from statex.session.request import OutputSpec, Policy, Request, TargetSpec


def arguments(ctx: typer.Context, names: Sequence[str], *, recipes: bool = False, optional: int = 0) -> Divided:
    """Return the arguments of a command by what they are; the arguments are those of `divided`."""
    given: list[CommandArgument] = ctx.meta[ORDER]
    return divided(given, names, recipes=recipes, optional=optional)


def request(
    rules: Sequence[CommandArgument],
    source: str | None,
    program: options.ProgramOptions,
    aim: options.Aim,
    outputs: Sequence[OutputSpec] = (),
    policy: Policy | None = None,
) -> Request:
    """Return the request of a command; without a `source` only what needs no checkpoint can be done with it."""
    from statex.grammar.rulefiles import includes_from
    from statex.session.request import InputSpec, Policy, Request

    files = optimizers(program.optimizers)
    return Request(
        InputSpec(source if source is not None else {}, root(program.root)),
        parts(rules),
        {name: tuple(InputSpec(path) for path in paths) for name, paths in inputs(program.inputs).items()},
        outside(program),
        target(aim),
        (*outputs, *(of_optimizer(name, *files[name], outputs[0]) for name in files if outputs)),
        policy or Policy(),
        load=includes_from(program.include_path or ()),
        param_names=program.param_names,
        optimizers={name: InputSpec(path) for name, (path, _) in files.items()},
    )


def optimizers(given: Sequence[str] | None) -> dict[str, tuple[str, str]]:
    """Return the files of optimizers by names, each with where the new one goes: empty where nothing says so."""
    found: dict[str, tuple[str, str]] = {}
    for number, text in enumerate(given or ()):
        source, equals, to = text.partition("=")
        if not source or (equals and not to):
            raise typer.BadParameter(f"`{text}` is not of the form IN[=OUT]", param_hint="--optimizer")
        found["optimizer" if number == 0 else f"optimizer {number + 1}"] = source, to
    return found


def of_optimizer(name: str, source: str, to: str, beside: OutputSpec) -> OutputSpec:
    """Return the output of an optimizer: where it is said to be, or under its old name beside the first output."""
    from statex.session.request import OutputSpec

    if not to:
        other = os.fspath(beside.path)
        if other.endswith(("/", os.sep)) or os.path.isdir(other) or beside.shard_size is not None:
            raise typer.BadParameter(
                f"the output is a folder, which is written as a whole: say where the new optimizer goes, as in "
                f"--optimizer {source}=OUT",
                param_hint="--optimizer",
            )
        to = os.path.join(os.path.dirname(other), os.path.basename(source.rstrip(f"/{os.sep}")))
        if source.endswith(("/", os.sep)):
            to += "/"
    return OutputSpec(to, name, optimizer=name)


def root(text: str | None, option: str = "--root") -> Address | None:
    """Return the path of a state that an option names: dotted, or written as a list."""
    try:
        return path_from_text(text) if text is not None else None
    except ValueError:
        what = "takes a dotted path or a list such as ['a.b', 0, 'c']"
        raise typer.BadParameter(f"`{option}` {what}, and got `{text}`", param_hint=option) from None


def written(destination: str, writing: options.Writing, saying: options.Saying) -> tuple[OutputSpec, Policy]:
    """Return an output, and how the run that writes it goes about its work."""
    from statex.session.request import OutputSpec, Policy

    output = OutputSpec(
        destination,
        format=writing.format,
        shard_size=size(writing.shard_size, "--shard-size"),
        copy_files=writing.copy_files,
        stem=writing.stem,
        update_config=not writing.no_update_config,
    )
    policy = Policy(
        replace="always" if writing.force else "never",
        max_memory=size(writing.max_memory, "--max-memory"),
        check_input=writing.check_input,
        verify_written=writing.verify_written,
        keep_foreign=writing.keep_foreign,
        warnings=warnings(saying.warnings),
        dry_run=writing.dry_run,
    )
    return output, policy


def parts(rules: Sequence[CommandArgument]) -> tuple[ProgramPart, ...]:
    """Return the parts of a program: each rule file is one, and so is each single rule."""
    from statex.core.source import Source
    from statex.dsl.parts import ProgramPart, stem_of
    from statex.grammar import parse
    from statex.grammar.rulefiles import read_rules

    found: list[ProgramPart] = []
    several = sum(one.is_rule for one in rules) > 1
    for one in rules:
        if one.is_rule:
            name = f"<-e {1 + sum(part.shared for part in found)}>" if several else "<-e>"
            found.append(ProgramPart(parse(Source(name, one.text)), shared=True))
        else:
            source = read_rules(one.text)
            found.append(ProgramPart(parse(source), Path(one.text).parent.as_posix(), stem_of(source.name)))
    return tuple(found)


def pairs(given: Sequence[str] | None, option: str, form: str = "NAME=VALUE") -> list[tuple[str, str]]:
    """Split `NAME=VALUE` texts."""
    found = []
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{text}` is not of the form {form}", param_hint=option)
        if not value and form == "NAME=PATH":
            raise typer.BadParameter(f"`{text}` has no path, as of a variable that is not set", param_hint=option)
        found.append((name, value))
    return found


def outside(program: options.ProgramOptions) -> Outside:
    """Return the values of parameters: of files, in order, and of `-D`, which wins."""
    from statex.dsl.expressions.parameters import Given
    from statex.dsl.parts import Outside
    from statex.session.paramfiles import read_params

    documents = {str(path): read_params(path) for path in program.params or ()}
    given: dict[str, Given] = {}
    for content in documents.values():
        given.update((n, Given(v, typed=True, lenient=True)) for n, v in content.items() if v is not None)
    given.update((name, Given(text)) for name, text in pairs(program.definitions, "-D"))
    return Outside(given, documents=documents)


def inputs(given: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the paths of further inputs by name."""
    found: dict[str, list[str]] = {}
    for name, path in pairs(given, "--in", "NAME=PATH"):
        found.setdefault(name, []).append(path)
    return found


def target(aim: options.Aim) -> TargetSpec | None:
    """Return the target that options name, if any."""
    if aim.target is None and aim.target_arg:
        raise typer.BadParameter("there is no --target these would be arguments of", param_hint="--target-arg")
    if aim.target is None and aim.like is None:
        return None
    from statex.dsl.expressions.parameters import from_text, to_python
    from statex.session.request import TargetSpec

    given = {name: to_python(from_text(text, None)) for name, text in pairs(aim.target_arg, "--target-arg")}
    return TargetSpec(aim.target, aim.like, given)


def size(text: str | None, option: str) -> int | None:
    """Return a number of bytes written as 5GB, 500 MB or 2GiB."""
    if text is None:
        return None
    found = parse_size(text)
    if found is None:
        raise typer.BadParameter(f"`{option}` takes a size such as 5GB, 500MB or 2GiB, and got `{text}`")
    return found


def tolerances(given: options.Tolerance) -> dict[str, float]:
    """Return `rtol` and `atol`, 0 where they are not given."""
    return {"rtol": _tolerance(given.rtol, "--rtol"), "atol": _tolerance(given.atol, "--atol")}


def _tolerance(text: str | None, option: str) -> float:
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise typer.BadParameter(f"`{option}` takes a number from 0 on, and got `{text}`", param_hint=option)
    return value


def warnings(given: Sequence[str] | None) -> Mapping[str, str]:
    """Return what `-W` options say of warnings, by code; `*` stands for all that have none of their own.

    What is said of one code holds for it whatever is said of all, before or after; of two that say the same, the last.
    """
    found: dict[str, str] = {}
    for text in given or ():
        code, equals, way = text.rpartition("=")
        if way not in WAYS:
            raise typer.BadParameter(_no_way(text, code, way), param_hint="-W")
        found[_lint(code) if equals else ALL] = way
    return found


def _no_way(text: str, code: str, way: str) -> str:
    if not code and find_code(way) is not None:
        return f"`-W {text}` does not say what becomes of {way.upper()}: {way.upper()}=error, =warn or =ignore"
    near = did_you_mean(way, WAYS)
    nearest = f"{code}={near[0]}" if code and near else "".join(near)
    hint = f"; did you mean `-W {nearest}`?" if near else ""
    return f"`-W {text}` says neither error, warn nor ignore{hint}"


def _lint(name: str) -> str:
    code = find_code(name)
    if code is None:
        known = join_words([one.id for one in all_codes() if one.is_lint], limit=20)
        raise typer.BadParameter(f"there is no code `{name}`; warnings are {known} (`statex explain`)", param_hint="-W")
    if not code.is_lint:
        raise typer.BadParameter(f"{code.id} is an error, and only warnings (SX9xx) can be set", param_hint="-W")
    return code.id


def refuse_running(running: options.Running) -> None:
    """Refuse options that are for recipes."""
    named = {"--out": running.out, "--allow-import": running.allow_import, "--within": running.within,
             "--max-memory": running.max_memory}  # fmt: skip
    for name, value in named.items():
        if value:
            raise typer.BadParameter(f"`{name}` is for recipes, and none was given", param_hint=name)
