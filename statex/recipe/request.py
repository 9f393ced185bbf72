"""From a recipe and the values given from outside to the request that is carried out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from statex.core.source import LIBRARY, Span
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail, pointing_at
from statex.diagnostics.codes import recipes as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.expressions.parameters import Given, overridden, paths_in, reach, to_python
from statex.dsl.parts import Outside, ProgramPart, stem_of
from statex.grammar import parse
from statex.grammar.rulefiles import Load, read_include, read_rules
from statex.recipe import model
from statex.session.paramfiles import read_params
from statex.session.request import InputSpec, OutputSpec, Policy, Request, TargetSpec
from statex.session.sources import all_read, copied_along
from statex.session.warnings import ALL

_SPLICED = re.compile(r"\{\$(\w+)\}")


@dataclass(frozen=True)
class Overrides:
    """What is said of a recipe from outside; it wins over what the recipe says.

    `given` are values of parameters, `inputs` and `outputs` paths by name. `skip` is `None` if the recipe decides.
    `documents` are files of parameters, whole. `within` is the folder that everything read and written has to lie in.
    """

    given: Mapping[str, Given] = field(default_factory=dict)
    documents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, str] = field(default_factory=dict)
    allow_import: bool = False
    within: Path | None = None
    max_memory: int | None = None
    force: bool = False
    skip: bool | None = None
    rehash: bool = False
    dry_run: bool = False
    load: Load = read_include


def to_request(recipe: model.Recipe, overrides: Overrides) -> Request:
    """Return what a recipe asks for. Rule files and files of parameters are read, and no checkpoint.

    Raises:
        StatexError: SX710 for what lies outside of the folder it is confined to, SX711 for names that the recipe does
            not have, SX712 for a parameter whose file does not give it, SX713 for a skip without a report; 1xx and
            SX222 for rules, SX223 for files of parameters.
    """
    return _Request(recipe, overrides).made()


class _Request:
    """A request in the making."""

    def __init__(self, recipe: model.Recipe, overrides: Overrides) -> None:
        self._recipe = recipe
        self._overrides = overrides
        self._read: list[Path] = []
        self._declared: dict[str, Given] = {}

    def made(self) -> Request:
        recipe, overrides = self._recipe, self._overrides
        self._check_names()
        report = Path(recipe.resolve(recipe.report)) if recipe.report is not None else None
        policy = self._policy(report)
        if overrides.within is not None:
            self._check_within(overrides.within)
        self._declared.update((name, self._param(name, one)) for name, one in recipe.params.items())
        inputs = {name: self._input(one) for name, one in recipe.inputs.items()}
        (state,) = inputs.pop("main")
        names = Path(recipe.resolve(recipe.param_names)) if recipe.param_names is not None else None
        return Request(
            state,
            tuple(self._part(rule) for rule in recipe.rules),
            inputs,
            Outside(
                overrides.given,
                self._declared,
                {name: one.is_family for name, one in recipe.inputs.items() if name != "main"},
                frozenset(self._used()),
                {name: one.span for name, one in recipe.inputs.items()},
                overrides.documents,
            ),
            self._target(recipe.target),
            tuple(self._output(one) for one in recipe.outputs.values()),
            policy,
            report,
            overrides.load,
            Path(recipe.folder),
            tuple(dict.fromkeys([*self._read, *([names] if names is not None else [])])),
            recipe.source,
            param_names=names,
            optimizers={
                one.name: InputSpec(recipe.resolve(one.optimizer), span=one.at("optimizer"))
                for one in recipe.outputs.values()
                if one.optimizer is not None
            },
        )

    def _used(self) -> Iterator[str]:
        """Yield the parameters that something beside the rules uses."""
        yield from (one.name for one in self._arguments() if isinstance(one, model.Reference))
        for output in self._recipe.outputs.values():
            for pattern in output.keep:
                yield from _SPLICED.findall(pattern.text)

    def _arguments(self) -> Iterator[model.Argument]:
        for target in self._targets():
            yield from target.args.values()
        for rule in self._recipe.rules:
            if isinstance(rule, model.RuleFile):
                yield from rule.values.values()

    # --- names and places --------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        """Refuse paths for inputs and outputs that the recipe does not have."""
        problems = [
            *_unknown("input", "--in", self._overrides.inputs, self._recipe.inputs),
            *_unknown("output", "--out", self._overrides.outputs, self._recipe.outputs),
        ]
        for name, paths in self._overrides.inputs.items():
            known = self._recipe.inputs.get(name)
            if known is not None and not known.is_family and len(paths) > 1:
                problems.append(
                    diagnostic(
                        codes.OVERRIDE,
                        f"the input `{name}` takes one checkpoint, and {len(paths)} were given",
                        known.span,
                    )
                )
        if problems:
            raise StatexError(problems)

    def _check_within(self, folder: Path) -> None:
        base = os.path.realpath(folder)
        problems = []
        for paths, span in self._paths():
            outside = next((path for path in paths if not _is_below(path, base)), None)
            if outside is not None:
                problems.append(diagnostic(codes.OUTSIDE, f"`{outside}` lies outside of `{folder}`", span))
        if problems:
            raise StatexError(problems)

    def _paths(self) -> Iterator[tuple[Sequence[str], Span]]:
        """Yield all that is read and written, what belongs together at once, and where the recipe says so."""
        recipe = self._recipe
        for one in recipe.inputs.values():
            yield from ((all_read(os.fspath(spec.path or "")), spec.span or one.span) for spec in self._input(one))
        for name, param in recipe.params.items():
            if isinstance(param, model.FromFile) and name not in self._overrides.given:
                yield [recipe.resolve(param.file)], param.at("file")
        for rule in recipe.rules:
            if isinstance(rule, model.RuleFile) and not rule.path.startswith(LIBRARY):
                yield [recipe.resolve(rule.path)], rule.at("file")
        for target in self._targets():
            if target.like is not None:
                yield all_read(recipe.resolve(target.like)), target.at("like")
        for output in recipe.outputs.values():
            yield [self._output_path(output)], output.at("path")
            if output.copy_files:
                (main,) = self._input(recipe.inputs["main"])
                yield [os.fspath(path) for path in copied_along(main.path)], output.at("copy_files")
            if output.optimizer is not None:
                yield [recipe.resolve(output.optimizer)], output.at("optimizer")
        if recipe.param_names is not None:
            yield [recipe.resolve(recipe.param_names)], recipe.at("param_names")
        if recipe.report is not None:
            yield [recipe.resolve(recipe.report)], recipe.at("report")

    def _targets(self) -> list[model.Target]:
        found = [self._recipe.target, *(one.target for one in self._recipe.outputs.values())]
        return [one for one in found if one is not None]

    # --- inputs and outputs ------------------------------------------------------------------------------------

    def _input(self, one: model.Input) -> tuple[InputSpec, ...]:
        given = self._overrides.inputs.get(one.name)
        if given is None:
            return tuple(
                InputSpec(
                    self._recipe.resolve(file.path),
                    file.root,
                    file.format,
                    file.sha256,
                    file.at("path"),
                    file.at("sha256"),
                )
                for file in one.files
            )
        # The digest is that of the recipe's own file.
        first = one.files[0]
        return tuple(InputSpec(path, first.root, first.format, None, one.span) for path in given)

    def _output_path(self, one: model.Output) -> str:
        given = self._overrides.outputs.get(one.name)
        return given if given is not None else self._recipe.resolve(one.path)

    def _output(self, one: model.Output) -> OutputSpec:
        return OutputSpec(
            self._output_path(one),
            one.name,
            one.format,
            one.shard_size,
            one.copy_files,
            one.keep,
            self._target(one.target),
            one.at("path"),
            one.stem,
            one.update_config,
            one.name if one.optimizer is not None else "",
        )

    def _target(self, target: model.Target | None) -> TargetSpec | None:
        if target is None:
            return None
        if target.like is not None:
            return TargetSpec(like=self._recipe.resolve(target.like), span=target.span)
        return TargetSpec(
            target.model,
            None,
            {name: to_python(self._argument(one).value) for name, one in target.args.items()},
            os.path.abspath(self._recipe.folder),
            not self._overrides.allow_import,
            target.span,
        )

    # --- parameters and rules ----------------------------------------------------------------------------------

    def _param(self, name: str, one: model.Param) -> Given:
        if isinstance(one, model.Value):
            return Given(one.value, one.span, typed=True)
        if name in self._overrides.given:
            return Given(None, one.span, typed=True)  # the file is not needed
        path = Path(self._recipe.resolve(one.file))
        self._read.append(path)
        with pointing_at(one.at("file")):
            content = read_params(path, special=False)
        return Given(_in_file(content, one, path), one.span, typed=True, origin=f"`{one.key}` of `{path}`")

    def _argument(self, one: model.Argument) -> Given:
        if isinstance(one, model.Value):
            return Given(one.value, one.span, typed=True)
        declared, given = self._declared[one.name], self._overrides.given.get(one.name)
        origin = declared.origin if given is None else ""
        return Given(overridden(one.name, declared, given), one.span, typed=True, origin=origin)

    def _part(self, rule: model.Rule) -> ProgramPart:
        if isinstance(rule, model.RuleText):
            return ProgramPart(parse(rule.source), self._recipe.folder, shared=True)
        path = rule.path if rule.path.startswith(LIBRARY) else self._recipe.resolve(rule.path)
        with pointing_at(rule.at("file")):
            source = read_rules(path, special=False)
        given = {name: self._argument(one) for name, one in rule.values.items()}
        return ProgramPart(parse(source), Path(path).parent.as_posix(), stem_of(source.name), given)

    # --- policy ------------------------------------------------------------------------------------------------

    def _policy(self, report: Path | None) -> Policy:
        said, overrides = self._recipe.policy, self._overrides
        wanted = overrides.skip if overrides.skip is not None else said.unchanged == "skip"
        # Who forces a run wants one, unless `--if-changed` stands beside it.
        skip = wanted and not (overrides.force and overrides.skip is None)
        if wanted and (report is None or said.digests == "none"):
            lacks, fix = ("report", "report: report.json") if report is None else ("digests", "digests: sha256")
            fail(
                codes.SKIP_NEEDS_REPORT,
                f"to tell whether anything has changed takes the {lacks} of the last run, and this recipe has none",
                said.at("unchanged"),
                help=fix,
            )
        return Policy(
            replace="always" if overrides.force else said.replace,
            max_memory=said.max_memory if overrides.max_memory is None else overrides.max_memory,
            check_input=said.check_input,
            verify_written=said.verify_written,
            keep_foreign=said.keep_foreign,
            reversible=said.reversible,
            warnings={ALL: said.warnings, **said.codes, **overrides.warnings},
            digests=said.digests == "sha256" or (said.digests is None and report is not None),
            skip=skip,
            rehash=overrides.rehash,
            dry_run=overrides.dry_run,
            make_folders=True,
        )


def _is_below(path: str, base: str) -> bool:
    return os.path.commonpath([base, os.path.realpath(path)]) == base


def _unknown(kind: str, option: str, given: Mapping[str, object], known: Mapping[str, object]) -> Iterator[Diagnostic]:
    for name in given:
        if name not in known:
            near = did_you_mean(name, list(known))
            yield diagnostic(
                codes.OVERRIDE,
                f"`{option} {name}=…` names no {kind} of the recipe",
                notes=[f"it has {join_words([f'`{one}`' for one in known], limit=6)}"],
                help=f"did you mean `{near[0]}`?" if near else (),
            )


def _in_file(content: Mapping[str, Any], one: model.FromFile, path: Path) -> object:
    """Return the value at a dotted path of a file of parameters; messages name the path, never what is there."""
    try:
        return reach(content, one.key)
    except KeyError:
        near = did_you_mean(one.key, list(paths_in(content)))
    fail(
        codes.PARAM_FILE,
        f"`{path}` has no `{one.key}`",
        one.at("from"),
        help=f"did you mean `{near[0]}`?" if near else (),
    )
