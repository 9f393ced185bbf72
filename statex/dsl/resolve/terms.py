"""The patterns, templates and expressions of one statement: the names they bind, and the meaning of those they use."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from statex.core.dtypes import BY_NAME
from statex.core.source import Span
from statex.diagnostics import StatexError, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.expressions import questions
from statex.dsl.expressions.scope import CONSTANTS, CURRENT, QUERY_NAMES, unknown_input, unknown_parameter
from statex.dsl.keys.captures import CaptureKind, CaptureType
from statex.dsl.keys.patterns import compile_pattern
from statex.dsl.keys.templates import compile_template, no_current
from statex.dsl.ops import OPERATIONS, WORDS
from statex.dsl.resolve.calls import check_call
from statex.dsl.resolve.definitions import Definition, NameKind
from statex.dsl.resolve.names import KnownNames
from statex.dsl.suggestions import unknown_name
from statex.grammar import tree
from statex.grammar.walk import nodes


@dataclass(slots=True)
class Terms:
    """What a statement, or a row of a table, binds and reads; `current` says whether there is a current key."""

    names: KnownNames
    current: bool = False
    captures: dict[str, CaptureType] = field(default_factory=dict)
    bound: dict[str, Definition] = field(default_factory=dict)
    """The captures, and the names that the statement gives to something else."""
    own: dict[str, tree.Capture] = field(default_factory=dict)
    """The first mention of each capture that this statement binds."""
    read: set[str] = field(default_factory=set)
    """The names that are put in, compared or computed with somewhere."""
    splices: int = 0
    """How many `{$name}` there are."""
    broken: bool = False
    """Whether a pattern is wrong: what it would have bound is not known then."""

    # --- patterns ----------------------------------------------------------------------------------------------

    def bind(self, node: tree.PatternNode) -> None:
        """Resolve a pattern whose captures the rest of the statement sees."""
        self.check_input(node)
        splices = self.splices
        try:
            pattern = compile_pattern(node, splice=self.splice, known=self.captures)
        except StatexError as error:
            self.names.findings.found.extend(error.diagnostics)
            self.broken = True
            return
        if not self.captures and self.splices == splices:
            self.names.findings.patterns[node] = pattern
        if pattern.captures:
            self._bound_by(node, pattern.captures)

    def _bound_by(self, node: tree.PatternNode, captures: Mapping[str, CaptureType]) -> None:
        for piece in node.pieces:
            if isinstance(piece, tree.Capture) and piece.name != "_":
                self._capture(piece)
        if node.kind is tree.PatternKind.REGEX:
            for name in filter(str.isidentifier, captures):
                if name not in self.captures:
                    self._check_capture(name, node.span)
                at = node.span.text.find(f"<{name}>") + 1
                self.bound[name] = self.names.findings.define(NameKind.CAPTURE, name, node.span.at(at, at + len(name)))
        self.captures.update(captures)

    def _capture(self, piece: tree.Capture) -> None:
        """Note a capture in a pattern: the first mention binds it, a further one asks for the same text."""
        name = piece.name
        if name in self.bound or name in self.names.prefix:
            self._reads(name, piece.span)
            return
        self._check_capture(name, piece.span)
        self.own[name] = piece
        self.bound[name] = self.names.findings.define(NameKind.CAPTURE, name, piece.span)

    def _check_capture(self, name: str, span: Span) -> None:
        if name not in self.names.prefix:
            self.names.check_free(name, span, self.names.values, f"`{{${name}}}` puts its value in; or ")

    def count(self, name: tree.Name) -> None:
        """Note the name in which a `split` counts its pieces."""
        self.names.check_free(name.name, name.span, self.names.values)
        self.captures[name.name] = CaptureType(CaptureKind.INT)
        self.bound[name.name] = self.names.findings.define(NameKind.COUNTER, name.name, name.span)

    def call(self, name: tree.Name) -> None:
        """Note what a statement calls one of its sources."""
        self.names.check_free(name.name, name.span, {*self.names.values, *self.bound, *self.captures})
        self.bound[name.name] = self.names.findings.define(NameKind.SOURCE, name.name, name.span)

    def asks(self, node: tree.PatternNode) -> None:
        """Resolve a pattern in a condition: `{key}` is the current key there, what the statement has bound is that."""
        self.check_input(node)
        try:
            compile_pattern(node, splice=self.splice)
            for capture in (piece for piece in node.pieces if isinstance(piece, tree.Capture)):
                if capture.name == questions.KEY and capture.kind is tree.CaptureForm.PLAIN:
                    self.read.add(questions.KEY)
                    if not self.current:
                        no_current(capture.name, capture.span)
                elif capture.name in self.bound or capture.name in self.captures:
                    self._reads(capture.name, capture.span)
                else:
                    self._check_capture(capture.name, capture.span)
                    if capture.name in self.names.prefix:
                        self._reads(capture.name, capture.span)
        except StatexError as error:
            self.names.findings.found.extend(error.diagnostics)

    def check_input(self, node: tree.PatternNode) -> None:
        """Resolve the input that a pattern or a key is of."""
        if node.input is None:
            return
        self.names.findings.read.add(node.input)
        if node.input in self.names.inputs:
            self.names.means(node.span.at(0, len(node.input)), self.names.inputs[node.input])
            return
        self.names.findings.found.add(
            diagnostic(
                codes.UNKNOWN_INPUT,
                f"there is no input `{node.input}`",
                node.span,
                help=unknown_input(node, self.names.inputs),
            )
        )

    # --- templates ---------------------------------------------------------------------------------------------

    def fill(self, node: tree.PatternNode) -> None:
        """Resolve a template, into which captures and names of the program are filled."""
        self._mentions(node)
        if self.names.inside_macro or self.broken:
            # An argument spliced in may bring captures along: what is bound is known where the macro is used.
            return
        try:
            choices = [p for p in node.pieces if isinstance(p, tree.Capture) and p.choices]
            own = {p.name: CaptureType(CaptureKind.CHOICE, p.choices) for p in choices}
            splices = self.splices
            template = compile_template(node, splice=self.splice)
            if self.splices == splices:
                self.names.findings.templates[node] = template
            known = {**own, **self.captures} if own else self.captures
            self.names.findings.found.extend(template.check(known, {*self.names.values, questions.KEY}))
        except StatexError as error:
            self.names.findings.found.extend(error.diagnostics)

    def _mentions(self, node: tree.PatternNode) -> None:
        """Note the names in a template, or in a text that may be one."""
        for piece in node.pieces:
            if isinstance(piece, tree.Capture):
                self._reads(piece.name, piece.span)
            elif isinstance(piece, tree.Splice):
                self.splices += self.names.inside_macro
                self.names.use(piece.name, piece.span, self.names.values.get(piece.name))
            elif isinstance(piece, tree.Field):
                for one in nodes(piece.value):
                    if isinstance(one, tree.Name):
                        self._reads(one.name, one.span)

    def _reads(self, name: str, span: Span) -> None:
        self.read.add(name)
        self.names.use(name, span, self.bound.get(name) or self.names.values.get(name))

    def put_in(self, node: tree.PatternNode) -> None:
        """Resolve what is put into plain text, which has no captures."""
        for piece in node.pieces:
            if isinstance(piece, tree.Splice):
                self.splice(piece)

    def splice(self, piece: tree.Splice) -> str:
        """Resolve a `{$name}`, and return what stands for it where its value is not known."""
        self.splices += 1
        known = self.names.values
        self.names.use(piece.name, piece.span, known.get(piece.name))
        if piece.name not in known:
            near = did_you_mean(piece.name, sorted(known))
            self.names.findings.found.add(
                diagnostic(
                    codes.UNKNOWN_NAME,
                    f"there is no parameter `{piece.name}`",
                    piece.span,
                    help=unknown_parameter(piece.name, near),
                )
            )
        return "_"

    # --- expressions -------------------------------------------------------------------------------------------

    def walk(self, root: object) -> None:
        """Resolve an expression."""
        for node in nodes(root):
            if isinstance(node, tree.Name):
                self._name(node)
            elif isinstance(node, tree.Call):
                check_call(node, self.names.findings.found)
            elif isinstance(node, tree.KeyRef):
                self.check_input(node.key)
                self.fill(node.key)
            elif isinstance(node, tree.Query | tree.Matches):
                self.asks(node.pattern)
            elif isinstance(node, tree.String) and node.pattern is not None:
                self._mentions(node.pattern)

    def _name(self, node: tree.Name) -> None:
        name = node.name
        self._reads(name, node.span)
        known: Iterable[Container[str]] = (
            self.names.values, self.captures, self.bound, CURRENT, CONSTANTS, OPERATIONS, QUERY_NAMES, BY_NAME, WORDS,
        )  # fmt: skip
        if self.names.inside_macro or self.broken or any(name in one for one in known):
            return
        candidates = [*self.names.values, *self.captures, *self.bound, *OPERATIONS, *CURRENT]
        self.names.findings.found.add(unknown_name(name, node.span, candidates))
