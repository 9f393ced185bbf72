"""Resolves a program: names, captures, operations, in every branch, in unused macros and in included files.

Planning finds the same mistakes in the statements it carries out; this finds them in branches that are not taken, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statex.core import garbage
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.expressions.parameters import known_type
from statex.dsl.keys.patterns import compile_pattern
from statex.dsl.parts import Outside, ProgramPart, stem_of
from statex.dsl.resolve.definitions import Definition, NameKind, Resolved
from statex.dsl.resolve.findings import Findings
from statex.dsl.resolve.lints import lint_captures, lint_names
from statex.dsl.resolve.names import CONDITION, INCLUDED, MACRO, WITHIN, KnownNames
from statex.dsl.resolve.terms import Terms
from statex.grammar import tree
from statex.grammar.roles import Role, has_current, of
from statex.grammar.rulefiles import Load


def resolve(parts: Sequence[ProgramPart], load: Load, outside: Outside) -> Resolved:
    """Return what a program means whatever the checkpoint: its names and patterns, and everything that is wrong.

    `load` reads the rule file a path in a folder names; each is read and parsed once.
    """
    with garbage.paused():
        return _resolved(parts, Findings(load), outside)


def _resolved(parts: Sequence[ProgramPart], findings: Findings, outside: Outside) -> Resolved:
    shared = KnownNames(findings)
    shared.values.update((n, Definition(NameKind.PARAM, n, v.span)) for n, v in outside.params.items())
    shared.inputs.update((n, Definition(NameKind.INPUT, n, outside.places.get(n))) for n in outside.inputs)
    together = [one for part in parts if part.shared for one in part.program.statements]
    for part in parts:
        names = shared if part.shared else KnownNames(findings)
        names.stem = part.stem
        findings.files.setdefault(part.stem, {})
        statements = part.program.statements
        _Resolver(names, part.folder, (part.program.source.name,)).statements(statements)
        if not _acts(together if part.shared else statements):
            findings.left_open.update((*names.macros.values(), *names.inputs.values()))
    lint_names(findings, outside.used)
    return Resolved(
        tuple(parts),
        findings.found.diagnostics,
        findings.lints.diagnostics,
        tuple(findings.inputs),
        tuple((stem, tuple(names)) for stem, names in findings.files.items()),
        frozenset(shared.used),
        frozenset(findings.read),
        tuple(findings.included),
        findings.programs,
        tuple(findings.definitions.values()),
        findings.uses,
        findings.patterns,
        findings.templates,
    )


def _acts(statements: Sequence[tree.Statement]) -> bool:
    """Say whether statements do something; those that only define names are for others to use."""
    quiet = (tree.Param, tree.Let, tree.Input, tree.Macro, tree.Include, tree.Root)
    return not all(isinstance(one, quiet) for one in statements)


_AROUND = (tree.SetValue, tree.AddValue, tree.DropValue)

_BLOCKED: Mapping[str, tuple[type[tree.Statement], ...]] = {
    CONDITION: (tree.Root, tree.Input),
    WITHIN: (tree.Root, tree.Input, tree.Param, tree.Order, *_AROUND),
    MACRO: (tree.Root, tree.Input, tree.Param, *_AROUND),
    INCLUDED: (tree.Root,),
}
"""What may not stand in a block: it speaks of the whole program, and is known before anything is carried out."""


class _Resolver:
    """Resolves the statements of a file or a block; `folder` is what an `include` is relative to.

    `files` are the file they stand in and those that led to it.
    """

    def __init__(self, names: KnownNames, folder: str, files: tuple[str, ...]) -> None:
        self.names = names
        self.findings = names.findings
        self.folder = folder
        self.files = files

    def statements(self, statements: Sequence[tree.Statement]) -> None:
        if not statements:
            return
        with self.findings.bounds.nested(statements[0].span):
            for node in statements:
                try:
                    self._statement(node)
                except StatexError as error:
                    self.findings.found.extend(error.diagnostics)

    def _statement(self, node: tree.Statement) -> None:
        self._check_place(node)
        match node:
            case tree.Rename():
                self._rename(node)
            case tree.Use():
                self._use(node)
            case tree.Macro():
                self._macro(node)
            case tree.Within():
                self._within(node, self._terms(node))
            case tree.If():
                self._terms(node)
                self._branches(node)
            case tree.Include():
                self._terms(node)
                self._include(node)
            case _:
                self._terms(node)
                self._declare(node)

    def _check_place(self, node: tree.Statement) -> None:
        for block, statements in _BLOCKED.items():
            if block in self.names.blocks and isinstance(node, statements):
                verb = node.span.text.split(maxsplit=1)[0]
                self.findings.found.add(
                    diagnostic(
                        codes.MISPLACED,
                        f"`{verb}` is about the whole program and cannot be used inside {block}",
                        node.span,
                        help="put it at the top of the file, outside of any block"
                        if block != INCLUDED
                        else "put it into the file that includes this one",
                    )
                )
                return

    def _terms(self, node: tree.Statement) -> Terms:
        """Resolve the patterns of a statement, then what uses their captures."""
        terms = Terms(self.names, has_current(node))
        for pattern in of(node, Role.BINDING):
            terms.bind(pattern)
        if isinstance(node, tree.Split) and node.over is not None:
            terms.count(node.over)
        elif isinstance(node, tree.Merge):
            self._sources(node, terms)
        for pattern in of(node, Role.NAMING):
            if pattern.kind is tree.PatternKind.REGEX:
                compile_pattern(pattern, splice=terms.splice)
        templates = list(of(node, Role.TEMPLATE))
        for template in templates:
            terms.fill(template)
        for expression in of(node, Role.READING):
            terms.walk(expression)
        if templates:
            lint_captures(terms)
        return terms

    def _sources(self, node: tree.Merge, terms: Terms) -> None:
        if node.over is not None and node.over.name in terms.bound:
            terms.read.add(node.over.name)
            self.names.means(node.over.span, terms.bound[node.over.name])
        for source in node.sources:
            if source.name is not None:
                terms.call(source.name)

    def _rename(self, node: tree.Rename) -> None:
        for row in node.rows:
            terms = Terms(self.names, current=True)
            is_pattern = node.mode in (tree.RenameMode.KEY, tree.RenameMode.PART)
            is_regex = node.mode is tree.RenameMode.TEXT and row.source.kind is tree.PatternKind.REGEX
            if node.mode is tree.RenameMode.TEXT and not is_regex:
                terms.put_in(row.source)
            else:
                terms.bind(row.source)
            if is_pattern or is_regex:
                terms.fill(row.target)
            else:
                terms.put_in(row.target)
            if node.where is not None:
                terms.walk(node.where)
            if is_pattern:
                lint_captures(terms)

    # --- what a statement defines ------------------------------------------------------------------------------

    def _declare(self, node: tree.Statement) -> None:
        match node:
            case tree.Param():
                self.names.define(NameKind.PARAM, node.name)
                self.findings.files.setdefault(self.names.stem, {})[node.name.name] = None
                if node.type is not None:
                    known_type(node.type)
            case tree.Let():
                self.names.define(NameKind.LET, node.name)
            case tree.Input():
                self._input(node)
            case tree.Order() if node.like is not None:
                self.findings.read.add(node.like.name)
                self.names.means(node.like.span, self.names.inputs.get(node.like.name))

    def _input(self, node: tree.Input) -> None:
        self.findings.inputs.append(node)
        name = node.name.name
        if name not in self.names.inputs:
            self.names.inputs[name] = self.findings.define(NameKind.INPUT, name, node.name.span)

    def _macro(self, node: tree.Macro) -> None:
        inner = self._inner(MACRO)
        for number, parameter in enumerate(node.parameters):
            if parameter.name in {p.name for p in node.parameters[:number]}:
                self.findings.found.add(
                    diagnostic(codes.NAME_CLASH, f"`{parameter.name}` is named twice", parameter.span)
                )
            inner.names.values[parameter.name] = self.findings.define(NameKind.ARGUMENT, parameter.name, parameter.span)
        inner.statements(node.body)
        definition = self.findings.define(NameKind.MACRO, node.name.name, node.name.span)
        self.names.macros[node.name.name] = definition
        if INCLUDED in self.names.blocks:
            self.findings.left_open.add(definition)

    def _inner(self, block: str) -> _Resolver:
        return _Resolver(self.names.inner(block), self.folder, self.files)

    # --- blocks ------------------------------------------------------------------------------------------------

    def _use(self, node: tree.Use) -> None:
        definition = self.names.macros.get(node.name.name)
        self.names.means(node.name.span, definition)
        if definition is None:
            near = did_you_mean(node.name.name, sorted(self.names.macros))
            self.findings.found.add(
                diagnostic(
                    codes.UNKNOWN_MACRO,
                    f"there is no macro `{node.name.name}` before this place",
                    node.name.span,
                    help=f"did you mean `{near[0]}`?" if near else (),
                )
            )
        self._terms(node)

    def _within(self, node: tree.Within, terms: Terms) -> None:
        inner = self._inner(WITHIN)
        # The captures of the prefix are names for everything inside.
        inner.names.values |= terms.bound
        inner.names.prefix = self.names.prefix | set(terms.captures)
        inner.statements(node.body)

    def _branches(self, node: tree.If) -> None:
        outside = self.names.blocks
        self.names.blocks = outside | {CONDITION}
        self.statements(node.then)
        self.statements(node.otherwise)
        self.names.blocks = outside

    def _include(self, node: tree.Include) -> None:
        given: set[str] = set()
        for binding in node.bindings:
            if binding.name.name in given:
                self.findings.found.add(
                    diagnostic(codes.NAME_CLASH, f"`{binding.name.name}` is given twice", binding.name.span)
                )
            given.add(binding.name.name)
        program = self.findings.program(node, self.folder)
        name = program.source.name
        if name in self.files:
            chain = " -> ".join((*self.files, name))
            self.findings.found.add(
                diagnostic(codes.INCLUDE_CYCLE, f"`{node.path.value}` includes itself", node.path.span, notes=[chain])
            )
            return
        self._included(program, (*self.files, name))

    def _included(self, program: tree.Program, files: tuple[str, ...]) -> None:
        """Resolve an included file, and know its macros and inputs; what was resolved is not resolved again."""
        # A block around the `include` is one around all that is included.
        blocks = (self.names.blocks - {MACRO}) | {INCLUDED}
        source = program.source
        place = (source.name, blocks, frozenset(self.names.inputs))
        done = self.findings.resolved
        if place not in done:
            self.findings.included.append(source)
            stem = stem_of(source.name)
            names = KnownNames(self.findings, stem, inputs=self.names.inputs, blocks=blocks)
            self.findings.files.setdefault(stem, {})
            _Resolver(names, source.name.rpartition("/")[0] or ".", files).statements(program.statements)
            done[place] = (names.macros, dict(names.inputs))
        macros, inputs = done[place]
        self.names.macros |= macros
        for name, definition in inputs.items():
            self.names.inputs.setdefault(name, definition)
