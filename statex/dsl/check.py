"""What can be said of a program without a checkpoint: names, captures, operations, in every branch.

Planning finds the same mistakes in the statements it carries out; this finds them in branches that are not taken and
in macros that are not used, too.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import is_dataclass, replace

from statex.diagnostics import Collector, Diagnostic, Label, StatexError, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.codes import types as type_codes
from statex.diagnostics.suggest import did_you_mean
from statex.diagnostics.torch_words import ARGUMENTS
from statex.dsl import questions
from statex.dsl.bounds import Bounds
from statex.dsl.captures import CaptureKind, CaptureType
from statex.dsl.inputs import TARGET
from statex.dsl.ops import OPERATIONS, WORDS
from statex.dsl.ops.base import ArgKind
from statex.dsl.parameters import known_type
from statex.dsl.parts import Outside, Part, stem_of
from statex.dsl.patterns import compile_pattern
from statex.dsl.roles import binding_patterns, has_current, templates
from statex.dsl.scope import CONSTANTS, CURRENT, QUERY_NAMES, taken_by_language, unknown_input, unknown_parameter
from statex.dsl.suggestions import unknown_name, unknown_operation
from statex.dsl.templates import compile_template, no_current
from statex.dtypes import BY_NAME
from statex.grammar import parse, tree
from statex.grammar.walk import nodes
from statex.record import record
from statex.source import Source, Span

Load = Callable[[str, str], Source]


@record
class Checked:
    """What a static check finds: everything that is wrong, and what is declared, of included files too.

    `files` are the scopes that parameters are given to, each with its stem (empty for what is no file) and the names
    of its parameters; `used` are the names that the shared scope uses, `read` the inputs that any scope reads;
    `included` are the texts of included files.
    """

    diagnostics: tuple[Diagnostic, ...]
    inputs: tuple[tree.Input, ...]
    files: tuple[tuple[str, tuple[str, ...]], ...] = ()
    used: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()
    included: tuple[Source, ...] = ()


def check_program(parts: Sequence[Part], load: Load, outside: Outside) -> Checked:
    """Return everything that is wrong with a program whatever the checkpoint, and what it declares."""
    notes = _Notes()
    shared = _Checker(load, notes)
    shared.names |= set(outside.params)
    shared.inputs |= set(outside.inputs)
    for part in parts:
        checker = shared if part.shared else _Checker(load, notes)
        checker.stem = part.stem
        notes.files.setdefault(part.stem, {})
        checker.statements(part.program.statements, part.folder, (part.program.source.name,))
    return Checked(
        notes.found.diagnostics,
        tuple(notes.inputs),
        tuple((stem, tuple(names)) for stem, names in notes.files.items()),
        frozenset(shared.used),
        frozenset(notes.read),
        tuple(notes.included),
    )


class _Notes:
    """What the check of a whole program finds, in all of its scopes."""

    def __init__(self) -> None:
        self.found = Collector()
        self.inputs: list[tree.Input] = []
        self.read: set[str] = set()
        self.files: dict[str, dict[str, None]] = {}
        self.included: list[Source] = []
        self.bounds = Bounds()
        self.checked: dict[tuple[str, frozenset[str], frozenset[str]], tuple[set[str], frozenset[str]]] = {}
        """The macros and inputs known after an included file, by its name, its blocks and the inputs known before."""


_AROUND = (tree.SetValue, tree.AddValue, tree.DropValue)

_BLOCKED: Mapping[str, tuple[type[tree.Statement], ...]] = {
    "a condition": (tree.Root, tree.Input),
    "`within`": (tree.Root, tree.Input, tree.Param, tree.Order, *_AROUND),
    "a macro": (tree.Root, tree.Input, tree.Param, *_AROUND),
    "an included file": (tree.Root,),
}
"""What may not stand in a block: it speaks of the whole program, and is known before anything is carried out."""


class _Checker:
    def __init__(self, load: Load, notes: _Notes) -> None:
        self.load = load
        self.notes = notes
        self.found = notes.found
        self.stem = ""
        self.names: set[str] = set()
        self.used: set[str] = set()
        self.inputs: set[str] = {TARGET}
        self.macros: set[str] = set()
        self.blocks: frozenset[str] = frozenset()
        self.prefix: frozenset[str] = frozenset()
        """The captures of the `within` blocks around; to name one again asks for the same text."""
        self.broken = False
        """Whether a pattern of the statement at hand is wrong: what it would have bound is not known then."""

    @property
    def inside_macro(self) -> bool:
        """Whether the names of arguments stand for what is known only where the macro is used."""
        return "a macro" in self.blocks

    # --- statements --------------------------------------------------------------------------------------------

    def statements(self, nodes: Sequence[tree.Statement], folder: str, files: tuple[str, ...]) -> None:
        if not nodes:
            return
        with self.notes.bounds.nested(nodes[0].span):
            for node in nodes:
                try:
                    self.statement(node, folder, files)
                except StatexError as error:
                    self.found.extend(error.diagnostics)

    def statement(self, node: tree.Statement, folder: str, files: tuple[str, ...]) -> None:
        self.broken = False
        self._check_place(node)
        match node:
            case tree.Param():
                self.expressions(node, {})
                self.define(node.name)
                self.notes.files.setdefault(self.stem, {})[node.name.name] = None
                if node.type is not None:
                    known_type(node.type)
            case tree.Let():
                self.expressions(node, {})
                self.define(node.name)
            case tree.Input():
                self.inputs.add(node.name.name)
                self.notes.inputs.append(node)
            case tree.Macro():
                self._macro(node, folder, files)
            case tree.Include():
                self._include(node, folder, files)
            case tree.Use():
                self._use(node)
            case tree.Within():
                self._within(node, folder, files)
            case tree.If():
                self._walk(node.condition, {})
                self._branches(node, folder, files)
            case tree.Rename():
                self._rename(node)
            case tree.Order() if node.like is not None:
                self.notes.read.add(node.like.name)
            case tree.Root() | tree.Order():
                pass
            case tree.SetValue() | tree.AddValue() | tree.DropValue():
                self._around(node)
            case _:
                self._with_patterns(node)

    def _check_place(self, node: tree.Statement) -> None:
        for block, statements in _BLOCKED.items():
            if block in self.blocks and isinstance(node, statements):
                verb = node.span.text.split(maxsplit=1)[0]
                self.found.add(
                    diagnostic(
                        codes.MISPLACED,
                        f"`{verb}` is about the whole program and cannot be used inside {block}",
                        node.span,
                        help="put it at the top of the file, outside of any block"
                        if block != "an included file"
                        else "put it into the file that includes this one",
                    )
                )
                return

    def _branches(self, node: tree.If, folder: str, files: tuple[str, ...]) -> None:
        outside = self.blocks
        self.blocks = outside | {"a condition"}
        self.statements(node.then, folder, files)
        self.statements(node.otherwise, folder, files)
        self.blocks = outside

    def define(self, name: tree.Name) -> None:
        self._check_free(name.name, name.span)
        self.names.add(name.name)

    def _check_free(self, name: str, span: Span, taken: Container[str] = (), instead: str = "") -> None:
        """Report a name that means something already, in the language or among those `taken`."""
        what = taken_by_language(name)
        if what is not None:
            headline, instead = f"`{name}` already means something in every program: it is {what}", ""
        elif name in taken:
            headline = f"`{name}` is the name of something else already"
        else:
            return
        self.found.add(
            diagnostic(codes.NAME_CLASH, headline, span, help=f"{instead}choose another name, such as `{name}_`")
        )

    def _macro(self, node: tree.Macro, folder: str, files: tuple[str, ...]) -> None:
        inner = self._inner("a macro")
        for number, parameter in enumerate(node.parameters):
            if parameter.name in {p.name for p in node.parameters[:number]}:
                self.found.add(diagnostic(codes.NAME_CLASH, f"`{parameter.name}` is named twice", parameter.span))
        inner.names |= {p.name for p in node.parameters}
        inner.statements(node.body, folder, files)
        self.macros.add(node.name.name)

    def _inner(self, block: str) -> _Checker:
        inner = _Checker(self.load, self.notes)
        inner.names, inner.inputs, inner.used, inner.stem = set(self.names), self.inputs, self.used, self.stem
        inner.prefix = self.prefix
        inner.macros, inner.blocks = set(self.macros), self.blocks | {block}
        return inner

    def _include(self, node: tree.Include, folder: str, files: tuple[str, ...]) -> None:
        given: set[str] = set()
        for binding in node.bindings:
            self._walk(binding.value, {})
            if binding.name.name in given:
                self.found.add(diagnostic(codes.NAME_CLASH, f"`{binding.name.name}` is given twice", binding.name.span))
            given.add(binding.name.name)
        source = self._loaded(node, folder)
        if source.name in files:
            chain = " -> ".join((*files, source.name))
            self.found.add(
                diagnostic(codes.INCLUDE_CYCLE, f"`{node.path.value}` includes itself", node.path.span, notes=[chain])
            )
            return
        self._included(source, (*files, source.name))

    def _included(self, source: Source, files: tuple[str, ...]) -> None:
        """Check an included file, and know its macros and inputs; one that was checked is not checked again."""
        # A block around the `include` is one around all that is included.
        blocks = (self.blocks - {"a macro"}) | {"an included file"}
        place = (source.name, blocks, frozenset(self.inputs))
        if place not in self.notes.checked:
            self.notes.included.append(source)
            inner = _Checker(self.load, self.notes)
            inner.inputs, inner.blocks, inner.stem = self.inputs, blocks, stem_of(source.name)
            self.notes.files.setdefault(inner.stem, {})
            inner.statements(parse(source).statements, source.name.rpartition("/")[0] or ".", files)
            self.notes.checked[place] = (inner.macros, frozenset(inner.inputs))
        macros, inputs = self.notes.checked[place]
        self.macros |= macros
        self.inputs |= inputs

    def _loaded(self, node: tree.Include, folder: str) -> Source:
        """Return the file an `include` names; what is wrong with it is said of this place."""
        try:
            return self.load(folder, node.path.value)
        except StatexError as error:
            place = (Label(node.path.span),)
            raise StatexError([replace(d, labels=d.labels or place) for d in error.diagnostics]) from None

    def _use(self, node: tree.Use) -> None:
        if node.name.name not in self.macros:
            near = did_you_mean(node.name.name, sorted(self.macros))
            self.found.add(
                diagnostic(
                    codes.UNKNOWN_MACRO,
                    f"there is no macro `{node.name.name}` before this place",
                    node.name.span,
                    help=f"did you mean `{near[0]}`?" if near else (),
                )
            )
        for argument in node.arguments:
            self._walk(argument.value, {})

    def _within(self, node: tree.Within, folder: str, files: tuple[str, ...]) -> None:
        captures = self._captures(node.pattern, {})
        inner = self._inner("`within`")
        # The captures of the prefix are names for everything inside.
        inner.names |= set(captures)
        inner.prefix = self.prefix | set(captures)
        inner.statements(node.body, folder, files)

    def _rename(self, node: tree.Rename) -> None:
        for row in node.rows:
            is_pattern = node.mode in (tree.RenameMode.KEY, tree.RenameMode.PART)
            is_regex = node.mode is tree.RenameMode.TEXT and row.source.kind is tree.PatternKind.REGEX
            is_text = node.mode is tree.RenameMode.TEXT and not is_regex
            captures = self._captures(row.source, {}) if not is_text else self._texts(row.source)
            if is_pattern or is_regex:
                self._template(row.target, captures)
            else:
                self._texts(row.target)
            if node.where is not None:
                self._walk(node.where, captures, current=True)

    def _around(self, node: tree.SetValue | tree.AddValue | tree.DropValue) -> None:
        for place in (node.place,) if isinstance(node, tree.AddValue) else node.places:
            if isinstance(place, tree.MetadataOf) and place.pattern.kind is tree.PatternKind.REGEX:
                compile_pattern(place.pattern, splice=self._splice)
        self.expressions(node, {})

    def _with_patterns(self, node: tree.Statement) -> None:
        """Check a statement whose patterns bind what its templates and expressions use."""
        captures: dict[str, CaptureType] = {}
        for pattern in binding_patterns(node):
            captures.update(self._captures(pattern, captures))
        if isinstance(node, tree.Split) and node.over is not None:
            self._check_free(node.over.name, node.over.span, self.names)
            captures[node.over.name] = CaptureType(CaptureKind.INT)
        extra: set[str] = set()
        for name in (s.name for s in node.sources if s.name is not None) if isinstance(node, tree.Merge) else ():
            self._check_free(name.name, name.span, {*self.names, *captures, *extra})
            extra.add(name.name)
        for template in templates(node):
            self._template(template, captures)
        self.expressions(node, captures, extra)

    # --- patterns and templates --------------------------------------------------------------------------------

    def _captures(self, node: tree.PatternNode, known: Mapping[str, CaptureType]) -> dict[str, CaptureType]:
        self._check_input(node)
        try:
            captures = dict(compile_pattern(node, splice=self._splice, known=dict(known)).captures)
        except StatexError as error:
            self.found.extend(error.diagnostics)
            self.broken = True
            return {}
        spans = {p.name: p.span for p in node.pieces if isinstance(p, tree.Capture)}
        for name in captures:
            if name.isidentifier() and name not in known:
                self._check_capture(name, spans.get(name, node.span))
        return captures

    def _check_capture(self, name: str, span: Span) -> None:
        if name not in self.prefix:
            self._check_free(name, span, self.names, f"`{{${name}}}` puts its value in; or ")

    def _template(self, node: tree.PatternNode, captures: Mapping[str, CaptureType]) -> None:
        self.used |= {one.name for piece in node.pieces for one in nodes(piece) if hasattr(one, "name")}
        if self.inside_macro or self.broken:
            # An argument spliced in may bring captures along: what is bound is known where the macro is used.
            return
        try:
            choices = [p for p in node.pieces if isinstance(p, tree.Capture) and p.choices]
            own = {p.name: CaptureType(CaptureKind.CHOICE, p.choices) for p in choices}
            template = compile_template(node, splice=self._splice)
            self.found.extend(template.check({**own, **captures}, {*self.names, "key"}))
        except StatexError as error:
            self.found.extend(error.diagnostics)

    def _texts(self, node: tree.PatternNode) -> dict[str, CaptureType]:
        """Check what is put into plain text, which has no captures."""
        for piece in node.pieces:
            if isinstance(piece, tree.Splice):
                self._splice(piece)
        return {}

    def _splice(self, piece: tree.Splice) -> str:
        self.used.add(piece.name)
        if piece.name not in self.names:
            near = did_you_mean(piece.name, sorted(self.names))
            self.found.add(
                diagnostic(
                    codes.UNKNOWN_NAME,
                    f"there is no parameter `{piece.name}`",
                    piece.span,
                    help=unknown_parameter(piece.name, near),
                )
            )
        return "_"

    def _check_input(self, node: tree.PatternNode) -> None:
        if node.input is not None:
            self.notes.read.add(node.input)
        if node.input is not None and node.input not in self.inputs:
            self.found.add(
                diagnostic(
                    codes.UNKNOWN_INPUT,
                    f"there is no input `{node.input}`",
                    node.span,
                    help=unknown_input(node, self.inputs),
                )
            )

    # --- expressions -------------------------------------------------------------------------------------------

    def expressions(self, node: tree.Statement, captures: Mapping[str, CaptureType], extra: Iterable[str] = ()) -> None:
        for name in ("value", "where", "condition", "default"):
            expression = getattr(node, name, None)
            if is_dataclass(expression):
                self._walk(expression, captures, frozenset(extra), current=has_current(node))

    def _walk(
        self,
        root: object,
        captures: Mapping[str, CaptureType],
        extra: frozenset[str] = frozenset(),
        current: bool = False,
    ) -> None:
        """Check an expression; `current` says whether there is a current key."""
        for node in nodes(root):
            if isinstance(node, tree.Name):
                self._name(node, captures, extra)
            elif isinstance(node, tree.Call):
                self._call(node)
            elif isinstance(node, tree.KeyRef):
                self._check_input(node.key)
                self._template(node.key, captures)
            elif isinstance(node, tree.Query | tree.Matches):
                self._asked(node.pattern, {*captures, *extra}, current)

    def _asked(self, node: tree.PatternNode, known: Container[str], current: bool) -> None:
        """Check a pattern in a condition: `{key}` is the current key there, what the statement has bound is that."""
        self._check_input(node)
        try:
            compile_pattern(node, splice=self._splice)
            for capture in (piece for piece in node.pieces if isinstance(piece, tree.Capture)):
                if capture.name == questions.KEY and capture.kind is tree.CaptureKind.PLAIN:
                    if not current:
                        no_current(capture.name, capture.span)
                elif capture.name not in known:
                    self._check_capture(capture.name, capture.span)
        except StatexError as error:
            self.found.extend(error.diagnostics)

    def _name(self, node: tree.Name, captures: Mapping[str, CaptureType], extra: frozenset[str]) -> None:
        name = node.name
        self.used.add(name)
        known = name in self.names or name in captures or name in extra or name in CURRENT or name in CONSTANTS
        if (
            known
            or name in OPERATIONS
            or name in QUERY_NAMES
            or name in BY_NAME
            or name in WORDS
            or self.inside_macro
            or self.broken
        ):
            return
        candidates = [*self.names, *captures, *extra, *OPERATIONS, *CURRENT]
        self.found.add(unknown_name(name, node.span, candidates))

    def _call(self, node: tree.Call) -> None:
        if node.function in QUERY_NAMES:
            return
        operation = OPERATIONS.get(node.function)
        if operation is None:
            self.found.add(unknown_operation(node))
            return
        named = [a for a in node.arguments if a.name is not None]
        for number, argument in enumerate(named):
            if argument.name in {a.name for a in named[:number]}:
                self.found.add(diagnostic(codes.NAME_CLASH, f"`{argument.name}` is given twice", argument.span))
        if any(p.kind is ArgKind.AXES for p in operation.parameters):
            return
        names = [p.name for p in operation.parameters]
        for argument in node.arguments:
            if argument.name is not None and argument.name not in names:
                elsewhere = ARGUMENTS.get(argument.name)
                near = [elsewhere] if elsewhere in names else did_you_mean(argument.name, names)
                rest = argument.span.text[len(argument.name) :]
                self.found.add(
                    diagnostic(
                        type_codes.UNKNOWN_ARGUMENT,
                        f"`{node.function}` has no argument `{argument.name}`",
                        argument.span,
                        help=f"did you mean `{near[0]}{rest}`?" if near else operation.signature(),
                    )
                )
