"""Templates: the right side of `->`, filled with captures, parameters and integer arithmetic."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from statex.core.source import Span
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import names as name_codes
from statex.diagnostics.codes import patterns as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.keys.captures import Bindings, Captured, CaptureKind, CaptureType, is_named, is_wildcard, wildcard
from statex.dsl.keys.literals import literal_captures
from statex.dsl.keys.patterns import Splicer, below, spliced
from statex.dsl.values import UNKNOWN, PatternValue
from statex.grammar import tree

_LIMIT = 2**63


@dataclass(frozen=True)
class Template:
    """A compiled template; its pieces have no splices left."""

    node: tree.PatternNode
    pieces: tuple[tree.Piece, ...]
    prefix: int = 0
    """So many of the pieces are those of the `within` around: of a choice they are the text, not what it stands for."""

    @cached_property
    def stars(self) -> int:
        """The number of `*` and `**`."""
        return sum(isinstance(piece, tree.Star | tree.DoubleStar) for piece in self.pieces)

    @cached_property
    def names(self) -> Mapping[str, Span]:
        """The captures and parameters it needs, with where they are named first."""
        found: dict[str, Span] = {}
        for piece in self.pieces:
            if isinstance(piece, tree.Capture):
                found.setdefault(piece.name, piece.span)
            elif isinstance(piece, tree.Field):
                for name, span in _field_names(piece.value):
                    found.setdefault(name, span)
        return found

    @cached_property
    def _plain(self) -> tuple[tuple[bool, str], ...] | None:
        """Its texts and captures (which are true), if it has nothing else."""
        found: list[tuple[bool, str]] = []
        for piece in self.pieces:
            if isinstance(piece, tree.Text):
                found.append((False, piece.text))
            elif isinstance(piece, tree.Capture):
                found.append((True, piece.name))
        return tuple(found) if len(found) == len(self.pieces) and not self.prefix else None

    @cached_property
    def asks_key(self) -> bool:
        """Whether it may name the current key."""
        return "key" in self.names

    def check(self, captures: Mapping[str, CaptureType], constants: Container[str]) -> list[Diagnostic]:
        """Return what is wrong with it whatever the keys.

        These are names that nothing binds, `*`s that stand for nothing, and names in literal text.
        """
        found = literal_captures(self.node, captures, constants)
        for name, span in self.names.items():
            if name not in captures and name not in constants:
                found.append(_unbound(name, span, captures))
        stars = sum(is_wildcard(name) for name in captures)
        if self.stars > stars:
            found.append(
                diagnostic(
                    codes.TOO_MANY_STARS,
                    f"the template has {self.stars} `*` and the pattern {stars}",
                    self.node.span,
                    help="the nth `*` on the right stands for the nth on the left; or name them: `{x}`",
                )
            )
        for piece in self.pieces:
            if isinstance(piece, tree.Field):
                found += _check_arithmetic(piece, captures)
        return found

    def render(self, bindings: Bindings, constants: Mapping[str, object]) -> str:
        """Return the key; an empty capture of whole segments takes its dot along.

        Raises:
            StatexError: SX157 for arithmetic on text, SX158 for a number that cannot be part of a key.
        """
        if self._plain is not None:
            # What is empty, a parameter or a name that nothing binds needs more than this.
            found = [
                text if not captured else bindings[text].rendered if text in bindings else ""
                for captured, text in self._plain
            ]
            if all(found):
                return "".join(found)
        parts: list[str] = []
        stars = 0
        emptied = False
        for number, piece in enumerate(self.pieces):
            if isinstance(piece, tree.Star | tree.DoubleStar):
                stars += 1
                text = bindings[wildcard(stars)].rendered
            elif number < self.prefix and isinstance(piece, tree.Capture) and piece.name in bindings:
                text = bindings[piece.name].text
            else:
                text = self._text(piece, bindings, constants)
            if emptied and text.startswith("."):
                text = text[1:]
                emptied = False
            if not text and _is_segments(piece, bindings, stars):
                # `a.{m}.b` with an empty m is `a.b`, `{m}.b` is `b`, `a.{m}` is `a`.
                emptied = not parts or parts[-1].endswith(".")
                continue
            if text:
                parts.append(text)
                emptied = False
        result = "".join(parts)
        return result.removesuffix(".") if emptied else result

    def _text(self, piece: tree.Piece, bindings: Bindings, constants: Mapping[str, object]) -> str:
        if isinstance(piece, tree.Text):
            return piece.text
        if isinstance(piece, tree.Capture):
            value = _look_up(piece.name, bindings, constants, piece.span)
            return value.rendered if isinstance(value, Captured) else _as_text(value, piece.name, piece.span)
        assert isinstance(piece, tree.Field)
        return _field(piece, bindings, constants)


def compile_template(
    node: tree.PatternNode | None, *, splice: Splicer, prefix: tree.PatternNode | None = None
) -> Template:
    """Compile a template; `splice` gives what stands for `{$name}`, `prefix` is the pattern of the `within` around.

    Without a node, it is the prefix alone.

    Raises:
        StatexError: SX159 for a regular expression, which stands for no text.
    """
    before = () if prefix is None else tuple(spliced(below(prefix, None).pieces, splice))
    if node is None:
        assert prefix is not None
        return Template(prefix, before, len(before))
    if node.kind is tree.PatternKind.REGEX:
        fail(
            codes.NOT_TEXT,
            "a regular expression cannot be on the right",
            node.span,
            help='write a template: `"b.{1}"` takes the first group',
        )
    own = tuple(spliced(node.pieces, splice))
    if prefix is None:
        return Template(node, own)
    return Template(node, (*before, tree.Text(prefix.span, "."), *own), len(before))


def _is_segments(piece: tree.Piece, bindings: Bindings, stars: int) -> bool:
    if isinstance(piece, tree.Star | tree.DoubleStar):
        return wildcard(stars) in bindings
    return isinstance(piece, tree.Capture) and not (piece.name in bindings and bindings[piece.name].is_group)


def _unbound(name: str, span: Span, captures: Mapping[str, CaptureType]) -> Diagnostic:
    named = [n for n in captures if is_named(n)]
    near = did_you_mean(name, named)
    bound = f"the pattern binds {', '.join(f'`{{{n}}}`' for n in named)}" if named else "the pattern has no captures"
    return diagnostic(
        codes.UNBOUND,
        f"nothing binds `{name}`",
        span,
        notes=[bound],
        help=f"did you mean `{{{near[0]}}}`?" if near else (),
    )


def _field_names(node: tree.Expr) -> Iterator[tuple[str, Span]]:
    if isinstance(node, tree.Name):
        yield node.name, node.span
    elif isinstance(node, tree.Binary):
        yield from _field_names(node.left)
        yield from _field_names(node.right)
    elif isinstance(node, tree.Unary):
        yield from _field_names(node.operand)


def _check_arithmetic(piece: tree.Field, captures: Mapping[str, CaptureType]) -> list[Diagnostic]:
    if isinstance(piece.value, tree.Number):
        return _check_group(piece, str(piece.value.value), captures)
    found = []
    for name, span in _field_names(piece.value):
        kind = captures.get(name)
        if kind is not None and not kind.is_int:
            found.append(_not_an_int(name, span, kind))
    return found


def _check_group(piece: tree.Field, name: str, captures: Mapping[str, CaptureType]) -> list[Diagnostic]:
    """Check a number alone, which is a group of a regular expression."""
    if name not in captures:
        return [_unbound(name, piece.span, captures)]
    return [_not_an_int(name, piece.span, captures[name])] if piece.format is not None else []


def _not_an_int(name: str, span: Span, kind: CaptureType) -> Diagnostic:
    helps = f"declare it as an int where it is matched: `{{{name}:int}}`"
    if kind.kind is CaptureKind.GROUP:
        helps = "groups of a regular expression are text; a pattern with `{i:int}` captures a number"
    return diagnostic(codes.NOT_AN_INT, f"`{name}` is text, and this computes with it", span, help=helps)


def _look_up(name: str, bindings: Bindings, constants: Mapping[str, object], span: Span) -> object:
    if name in bindings:
        return bindings[name]
    if name in constants:
        return constants[name]
    if name == "key":
        no_current(name, span)
    fail(codes.UNBOUND, f"nothing binds `{name}`", span)


def no_current(name: str, span: Span) -> NoReturn:
    """Refuse what speaks of the current tensor where there is none.

    Raises:
        StatexError: SX218.
    """
    helps = {
        "key": "in a `let`, an `if`, an `expect CONDITION` or an `add` without `for`, write the key itself",
        "it": "name the tensor by its key",
    }
    fail(
        name_codes.NO_CURRENT,
        "there is no current key here" if name == "key" else f"`{name}` has no current tensor here",
        span,
        help=helps.get(name, f"name the tensor: `{name}(KEY)`"),
    )


def _as_text(value: object, name: str, span: Span) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    _check_known(value)
    fail(
        codes.NOT_AN_INT,
        f"`{name}` cannot be part of a key: only text and ints can",
        span,
        help=f"`{{${name}}}` puts a pattern in" if isinstance(value, PatternValue) else (),
    )


def _check_known(value: object) -> None:
    """Refuse a value that an error made unknown, without a word: what is wrong with it was said where it is defined."""
    if value is UNKNOWN:
        raise StatexError(())


def _field(piece: tree.Field, bindings: Bindings, constants: Mapping[str, object]) -> str:
    if isinstance(piece.value, tree.Number) and piece.format is None and str(piece.value.value) in bindings:
        return bindings[str(piece.value.value)].rendered
    number = _integer(piece.value, bindings, constants)
    if number < 0:
        fail(codes.BAD_NUMBER, f"`{piece.span.text}` gives {number}, and keys have no negative numbers", piece.span)
    return format(number, piece.format + "d") if piece.format else str(number)


def _integer(node: tree.Expr, bindings: Bindings, constants: Mapping[str, object]) -> int:
    if isinstance(node, tree.Number) and isinstance(node.value, int):
        return node.value
    if isinstance(node, tree.Name):
        value = _look_up(node.name, bindings, constants, node.span)
        value = value.value if isinstance(value, Captured) else value
        _check_known(value)
        if type(value) is not int:
            fail(
                codes.NOT_AN_INT,
                f"`{node.name}` is not an int, and this computes with it",
                node.span,
            )
        return value
    if isinstance(node, tree.Unary):
        operand = _integer(node.operand, bindings, constants)
        return -operand if node.operator == "-" else operand
    assert isinstance(node, tree.Binary)  # the parser lets nothing else be computed here
    return _binary(node, _integer(node.left, bindings, constants), _integer(node.right, bindings, constants))


def _binary(node: tree.Binary, left: int, right: int) -> int:
    if node.operator in ("//", "%") and right == 0:
        fail(codes.BAD_NUMBER, "division by zero", node.span)
    results = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}
    results |= {"//": lambda: left // right, "%": lambda: left % right}
    result = results[node.operator]()
    if abs(result) >= _LIMIT:
        fail(codes.BAD_NUMBER, "the number has more than 64 bits", node.span)
    return result
