"""The state of a compilation: a program is run over headers, and every value is a node of the graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import ne

from statex.core.dtypes import DType
from statex.core.header import Header, KeyPath, OpaqueInfo
from statex.core.paths import Address
from statex.core.source import Span
from statex.diagnostics import Collector, Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import keys as key_codes
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.codes import target as target_codes
from statex.dsl.bounds import Bounds
from statex.dsl.compile.around import Around
from statex.dsl.compile.embedded import inside, prefix_of
from statex.dsl.compile.inputs import InputState
from statex.dsl.compile.match import Clause, Match, main_only
from statex.dsl.compile.nested import Nesting
from statex.dsl.compile.reports import ambiguous, missing_key, no_match, of_prefix
from statex.dsl.compile.state import Outcome, State, initial_state, made_by
from statex.dsl.expressions.computing import check_compute
from statex.dsl.expressions.evaluate import Context, Evaluator
from statex.dsl.expressions.parameters import Given
from statex.dsl.expressions.questions import Questions, text_matches
from statex.dsl.expressions.scope import TARGET, Scope, unknown_input
from statex.dsl.keys.captures import Bindings, CaptureType
from statex.dsl.keys.key_index import KeyIndex
from statex.dsl.keys.patterns import Pattern, below, compile_pattern
from statex.dsl.keys.regex_help import lint_inside
from statex.dsl.keys.templates import Template, compile_template
from statex.dsl.parts import Outside
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import Graph, SourceKey
from statex.dsl.plan.plan import Allowed, Change, Rule, Same, Step
from statex.dsl.resolve import Resolved
from statex.dsl.values import TensorValue, Value
from statex.grammar import tree
from statex.grammar.roles import Role, of

Runner = Callable[["Compiler", Sequence[tree.Statement], Scope], None]
"""Carries out statements; handed in, as the statements are built on the compiler."""


class Compiler:
    """Runs the statements of a program over headers."""

    def __init__(
        self,
        header: Header,
        inputs: Mapping[str, Sequence[Header]],
        target: Header | None,
        resolved: Resolved,
        runner: Callable[[dict[str, Given]], Runner],
        outside: Outside,
        at: str = "",
        put_at: KeyPath | None = None,
        *,
        brief: bool = False,
    ) -> None:
        self.whole = header
        self.header = inside(header, at)
        """That of the module `at` a path in the whole state, which is what the program sees."""
        self.prefix = prefix_of(at)
        self.outside = outside
        self.given_inputs = dict(inputs)
        self.target = InputState(TARGET, [inside(target, at)], False) if target is not None else None
        self.bounds = Bounds()
        self._resolved = resolved
        self._runner = runner
        self.graph = Graph()
        self.state: State = initial_state(self.header, self.prefix)
        self.inputs = {n: InputState(n, self.given_inputs[n], family) for n, family in outside.inputs.items()}
        self.found = Collector(brief=brief)
        self.nesting: Nesting | None = None
        """Where keys stand in nested dicts and lists, if the state has any and keeps them."""
        self.steps: list[Step] = []
        self.allowed: list[Allowed] = []
        self.same: list[Same] = []
        self.around = Around(header, put_at)
        self._gone: dict[str, Change] = {}
        self._gone_steps = 0
        self._ties: dict[Hashable, Hashable] = {}
        self._fresh = 0
        self._questions = Questions(self.found)

    def run_with(self, statements: Sequence[tree.Statement], scope: Scope, given: dict[str, Given]) -> None:
        """Carry out statements whose parameters have these values from outside."""
        self._runner(given)(self, statements, scope)

    def included(self, folder: str, path: str) -> tree.Program:
        """Return the program of an included file."""
        return self._resolved.programs[folder, path]

    # --- steps and ties ----------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The number of the statement at work."""
        return len(self.steps)

    def apply(self, outcome: Outcome, scope: Scope) -> None:
        """Carry out what a statement came to; nothing else changes the state, or adds a step."""
        if self.nesting is not None:
            self.nesting.follow(outcome, self.step)
        before = self.state.in_order() if outcome.order is not None else ()
        reordered = sum(map(ne, before, outcome.order or ()))
        ended = self.state.apply(outcome)
        self._questions.forget()
        one = Step(
            outcome.verb, outcome.span, outcome.changes, scope.used_at, ended, outcome.named, outcome.rules,
            made_by(outcome), len(self.graph), reordered,
        )  # fmt: skip
        self.steps.append(one)

    @property
    def gone(self) -> Mapping[str, Change]:
        """What earlier statements did to the keys that are gone, for messages; put together when one asks."""
        for step in self.steps[self._gone_steps :]:
            self._gone.update((key, change) for change in step.changes if change.kind != "set" for key in change.before)
        self._gone_steps = len(self.steps)
        return self._gone

    def tie(self, roots: Hashable, value: TensorValue | None) -> Hashable:
        """Return the tie of a new value: what one statement makes equal of tied tensors stays tied.

        Two statements make two tensors, equal as they may be: whoever changes one of them does not mean the other.
        """
        made = (self.step, roots, None if value is None else value.id)
        return self._ties.setdefault(made, ("made", len(self._ties)))

    def fresh_tie(self) -> Hashable:
        """Return a tie that nothing else has."""
        self._fresh += 1
        return ("fresh", self._fresh)

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Take the diagnostics of an error that is raised inside, and go on after it."""
        try:
            yield
        except StatexError as error:
            self.report(error)

    def report(self, error: StatexError, case: str = "") -> None:
        """Take the diagnostics of an error, for one case."""
        for found in error.diagnostics:
            self.found.add(replace(found, cases=(case,)) if case and not found.cases else found)

    # --- patterns and templates --------------------------------------------------------------------------------

    def pattern(
        self,
        node: tree.PatternNode,
        scope: Scope,
        known: Mapping[str, CaptureType] | None = None,
        *,
        placed: bool = True,
    ) -> Pattern:
        """Return the compiled pattern, below the `within` blocks around it unless `placed` is false."""
        inside = placed and scope.prefix is not None and node.input is None
        found = scope.patterns.get((node, inside))
        if found is None and not inside:
            found = self._resolved.patterns.get(node)
        if found is not None and (not known or found.agrees(known)):
            return found
        whole = below(scope.prefix, node) if inside and scope.prefix is not None else node
        compiled = compile_pattern(whole, splice=scope.splice, known=known)
        if not known:
            scope.patterns[node, inside] = compiled
        return compiled

    def template(self, node: tree.PatternNode, scope: Scope, *, placed: bool = True) -> Template:
        """Return the compiled template, below the `within` blocks around it unless `placed` is false."""
        prefix = scope.prefix if placed and node.input is None else None
        found = scope.templates.get(node) if placed else None
        if found is None and prefix is None:
            found = self._resolved.templates.get(node)
        if found is None:
            found = compile_template(node, splice=scope.splice, prefix=prefix)
            if placed:
                scope.templates[node] = found
        return found

    def checked_template(
        self, node: tree.PatternNode, clause: Clause, extra: Mapping[str, CaptureType] | None = None
    ) -> Template:
        """Return a template whose names are all bound by the captures of the clause.

        Raises:
            StatexError: for names that nothing binds, and for a template of a further input (SX320).
        """
        main_only(node)
        template = self.template(node, clause.scope)
        problems = template.check({**clause.known, **(extra or {})}, {*clause.scope.names(), "key"})
        if problems:
            around = clause.scope.prefix
            raise StatexError([found if around is None else of_prefix(found, around, node) for found in problems])
        return template

    def rules(self, node: tree.Row | tree.Statement, clause: Clause) -> tuple[Rule, ...]:
        """Return what makes keys of a node's templates of those its patterns match, where they capture something."""
        templates = [self.template(one, clause.scope) for one in of(node, Role.TEMPLATE)]
        patterns = (self.pattern(one, clause.scope, clause.known) for one in of(node, Role.BINDING))
        return tuple([Rule(pattern, one) for pattern in patterns if pattern.captures for one in templates])

    def constants(self, scope: Scope, key: str | None = None) -> dict[str, object]:
        """Return the names a template may use besides captures."""
        names: dict[str, object] = {**scope.names()}
        if key is not None:
            names["key"] = key
        return names

    # --- matches -----------------------------------------------------------------------------------------------

    def matches(
        self,
        node: tree.PatternNode,
        clause: Clause,
        *,
        tensors: bool = False,
        stars: bool = False,
        optional: bool = False,
        further: bool = False,
    ) -> list[Match]:
        """Return what a pattern matches, in the order of the state; errors are noted and give no matches.

        `tensors` leaves entries aside that are no tensors, `stars` says that the template uses the `*`s, `further`
        allows patterns over further inputs.
        """
        try:
            return self._matches(node, clause, tensors, stars, optional or clause.optional, further)
        except StatexError as error:
            self.report(error)
            return []

    def _matches(
        self, node: tree.PatternNode, clause: Clause, tensors: bool, stars: bool, optional: bool, further: bool
    ) -> list[Match]:
        if not further:
            main_only(node)
        pattern = self.pattern(node, clause.scope, clause.known)
        clause.known.update(pattern.captures)
        index = self.index_of(node)
        found = index.find(pattern, ambiguous_stars=stars)
        for one in found:
            if one.other is not None:
                self.found.add(ambiguous(node, one.key, one.bindings, one.other))
        matched = [self._match(node, clause, one.key, one.bindings) for one in found if one.other is None]
        if node.input is None:
            matched.sort(key=lambda m: self.state.rank(m.key))
        kept = [m for m in matched if not tensors or m.entry.is_tensor]
        decided = [(m, self._holds(m, clause)) for m in kept]
        chosen = [m for m, holds in decided if holds]
        # Where an error was reported of a match, that none is left says nothing.
        sound = len(matched) == len(found) and all(holds is not None for _, holds in decided)
        if not chosen and sound and not optional:
            said = self.found.warnings if matched else ()
            gone = self.gone if self.found.explains(key_codes.NO_MATCH, node.span) else None
            self.found.add(no_match(node, index, pattern, matched, kept, clause, gone, said))
        if not found and optional:
            self._lint_inside(pattern, index)
        return chosen

    def _lint_inside(self, pattern: Pattern, index: KeyIndex) -> None:
        """Say of a regular expression that may match no key, and matches none, that it would match inside of keys."""
        warning = lint_inside(pattern, index)
        if warning is not None:
            self.found.add(warning)

    def _match(self, node: tree.PatternNode, clause: Clause, key: str, bindings: Bindings) -> Match:
        if node.input is None:
            return self.own_match(clause.scope, key, bindings)
        source = self.input(node)
        entries = source.entries(key, node.span, partly=clause.partly)
        family = (tuple(entry.value_in(self.graph) for entry in entries),) if source.family else None
        return Match(key, key, bindings, entries[0], family)

    def own_match(self, scope: Scope, key: str, bindings: Bindings) -> Match:
        """Return the match of a key of the state."""
        return Match(key, self.visible(key, scope, bindings), bindings, self.state.entries[key])

    def visible(self, key: str, scope: Scope, bindings: Bindings) -> str:
        """Return what the statements of a scope see of a key: without the prefix, which may be empty."""
        prefix = self.prefix_text(scope, bindings) if scope.prefix is not None else ""
        return key[len(prefix) + 1 :] if prefix else key

    def prefix_text(self, scope: Scope, bindings: Bindings) -> str:
        """Return the text the `within` blocks around a scope stand for, given the captures of a match."""
        assert scope.prefix is not None
        if scope.prefix_template is None:
            scope.prefix_template = compile_template(None, splice=scope.splice, prefix=scope.prefix)
        return scope.prefix_template.render(bindings, self.constants(scope))

    def _holds(self, match: Match, clause: Clause) -> bool | None:
        """Say whether `where` holds for a match, `None` after an error."""
        if clause.where is None:
            return True
        try:
            return self.evaluator(match, clause.scope).condition(clause.where, "`where`")
        except StatexError as error:
            self.report(error, match.case)
            return None

    def evaluator(self, match: Match, scope: Scope) -> Evaluator:
        """Return what evaluates the expressions of a statement for a match."""
        return Evaluator(self, scope, self.context(match))

    def context(self, match: Match, compute: DType | None = None, own: DType | None = None) -> Context:
        """Return what expressions know of a match; a family is a tuple.

        `compute` is what they compute in, `own` the dtype of the key that gets the value.
        """
        value = match.entry.current_in(self.graph) if match.instead is None else match.instead[0]
        return Context(value, match.visible, match.bindings, case=match.case, compute=compute, own=own)

    def evaluate(
        self,
        match: Match,
        scope: Scope,
        node: tree.Expr,
        compute: DType | None = None,
        own: DType | None = None,
    ) -> Value:
        """Return the value of an expression for a match, unknown after an error; the rest is as in `context`."""
        return Evaluator(self, scope, self.context(match, compute, own)).value(node)

    def compute(self, node: tree.Name | None, scope: Scope) -> DType | None:
        """Return the dtype that a statement says it computes in.

        Raises:
            StatexError: SX413 for one that it cannot compute in.
        """
        if node is None:
            return None
        return check_compute(Evaluator(self, scope, Context()).plain(node, "`in`"), node.span)

    # --- inputs ------------------------------------------------------------------------------------------------

    def input(self, node: tree.PatternNode) -> InputState:
        """Return the input a pattern or key is of.

        Raises:
            StatexError: SX209 for an undeclared one, SX506 where the target is asked and none was given; nothing to
                report where no checkpoint was given for the input.
        """
        assert node.input is not None
        if node.input == TARGET:
            if self.target is None:
                fail(
                    target_codes.NO_TARGET,
                    "this asks the target, and none was given",
                    node.span,
                    help="name it: `--target package.module:Model` or `--like other.safetensors`",
                )
            return self.target
        known = self.inputs.get(node.input)
        if known is None:
            fail(
                name_codes.UNKNOWN_INPUT,
                f"there is no input `{node.input}`",
                node.span,
                help=unknown_input(node, self.inputs),
            )
        if not known.headers:
            raise StatexError(())  # that no checkpoint was given is said where it is declared
        return known

    def index_of(self, node: tree.PatternNode) -> KeyIndex:
        """Return the index of the keys a pattern is over."""
        return self.state.index if node.input is None else self.input(node).index

    def named(self, node: tree.PatternNode, matches: Sequence[Match]) -> tuple[SourceKey, ...]:
        """Return the tensors of a further input that a pattern of a statement names by its matches."""
        if node.input is None or node.input == TARGET or not matches:
            return ()
        headers = self.inputs[node.input].headers
        return tuple(
            SourceKey(node.input, member, match.key)
            for match in matches
            for member, header in enumerate(headers)
            if match.key in header.entries
        )

    # --- what expressions ask (World) --------------------------------------------------------------------------

    def read(self, node: tree.KeyRef, scope: Scope, context: Context) -> Value:
        """Return the tensor (of a family: the tuple of tensors) under a key."""
        _, entries = self.standing(node, scope, context)
        if node.key.input is None or not self.input(node.key).family:
            return entries[0].current_in(self.graph)
        return tuple(entry.value_in(self.graph) for entry in entries)

    def standing(self, node: tree.KeyRef, scope: Scope, context: Context) -> tuple[str, Sequence[Entry]]:
        """Return the key that a reference names, and the tensor that stands there; of a family, that of each member.

        Raises:
            StatexError: SX304 for a key that is not there, SX311 for what is no tensor, SX310 for one that some members
                of a family lack, SX220 for the data of the target.
        """
        template = self.template(node.key, scope)
        key = template.render(context.bindings, self.constants(scope, context.key))
        entries = self._own(node, key) if node.key.input is None else self._of_input(node, key, context)
        if entries[0].opaque is not None:
            raise StatexError([_not_tensor(node.span, key, entries[0].opaque)])
        return key, entries

    def _own(self, node: tree.KeyRef, key: str) -> Sequence[Entry]:
        entry = self.state.entries.get(key)
        if entry is None:
            raise self.no_key(node.span, key)
        return [entry]

    def _of_input(self, node: tree.KeyRef, key: str, context: Context) -> Sequence[Entry]:
        source = self.input(node.key)
        if key not in source.index:
            raise self.no_key(node.span, key, source)
        if node.key.input == TARGET and not context.header_only:
            fail(
                name_codes.TENSOR_IN_CONDITION,
                "the target has no data: only its header can be asked",
                node.span,
                help=f"`shape({node.span.text})` asks for a shape",
            )
        return source.entries(key, node.span)

    def no_key(self, span: Span, key: str, source: InputState | None = None, *, read: bool = True) -> StatexError:
        """Return the error of a tensor that is read (or else written) and is not there, in the state or an input."""
        name = source.name if source is not None else None
        if not self.found.explains(key_codes.NO_KEY, span):
            return StatexError([missing_key(span, key, (), {}, name, read=read)])
        keys: Collection[str] = source.index if source is not None else self.state.entries
        return StatexError([missing_key(span, key, keys, self.gone if source is None else {}, name, read=read)])

    def count(self, node: tree.PatternNode, scope: Scope, context: Context) -> int:
        """Return the number of keys a pattern matches, for the match at hand."""
        return self._questions.count(self.pattern(node, scope), self.index_of(node), context)

    def key_matches(self, text: str, node: tree.PatternNode, scope: Scope, context: Context) -> bool:
        """Say whether a pattern matches a text, for the match at hand."""
        main_only(node)
        return text_matches(self.pattern(node, scope, placed=False), text, context)

    def value_at(self, path: Address, span: Span) -> Value:
        """Return a plain value of the checkpoint; KeyError where it has none."""
        return self.around.value_at(path, span)

    def text_at(self, name: str) -> str:
        """Return a text of the metadata; KeyError where it has none."""
        return self.around.metadata_texts[name]


def _not_tensor(span: Span, key: str, opaque: OpaqueInfo) -> Diagnostic:
    return diagnostic(key_codes.NOT_TENSOR, f"`{key}` is not a tensor: it holds a {opaque.kind}", span)
