"""Questions to the header: `size`, `shape`, `ndim`, `numel`, `dtype`, `is_floating_point`, `is_complex`, `value`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeGuard

import regex

from statex.core.paths import Address, as_list, in_rules
from statex.core.source import Span
from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.expressions.scalars import bounded
from statex.dsl.keys.patterns import REGEX_SECONDS
from statex.dsl.keys.quoting import show_text
from statex.dsl.ops.base import whole
from statex.dsl.values import UNKNOWN, TensorValue, Value, describe, is_tensors, kind_of


class PlainValues(Protocol):
    """Where plain values of a nested checkpoint come from, and the texts beside its tensors."""

    def value_at(self, path: Address, span: Span) -> Value:
        """Return the plain value at a path; KeyError where there is none."""

    def text_at(self, name: str) -> str:
        """Return a text of the metadata; KeyError where there is none."""


OF_PLAIN = frozenset(["value", "metadata", "lookup", "lookup_regex", "isqrt"])
"""The questions that are asked of plain values, and not of a tensor."""


def ask(name: str, arguments: Sequence[Value], span: Span, values: PlainValues, asked: Span | None = None) -> Value:
    """Return the answer to a question; its first argument is what is asked about, and `asked` where it is written.

    Raises:
        StatexError: SX207 where the arguments are of the wrong kind or number, SX221 where the checkpoint or
            the dict has no such value.
    """
    if name == "value":
        return _value(arguments, span, values)
    if name == "metadata":
        return _text(arguments, span, values)
    if name == "isqrt":
        return _isqrt(arguments, span)
    if name in OF_PLAIN:
        return _lookup(name, arguments, span)
    tensor, *rest = arguments
    if tensor is UNKNOWN:
        return UNKNOWN
    if is_tensors(tensor) and name in ("shape", "ndim", "numel", "dtype", "size"):
        fail(
            codes.WRONG_KIND,
            f"`{name}` needs one tensor, and this is {describe(tensor)}",
            span if asked is None else asked,
            help=f"write `{f'{name}(it[0])' if asked is None else f'{asked.text}[0]'}` to ask the first",
        )
    if not isinstance(tensor, TensorValue):
        fail(codes.WRONG_KIND, f"`{name}` needs a tensor, not {kind_of(tensor)}", span, values=[describe(tensor)])
    if name in ("size", "shape"):
        return _size(name, tensor, rest, span)
    if rest:
        fail(codes.WRONG_KIND, f"`{name}` takes one tensor and nothing else", span)
    answers: dict[str, Value] = {
        "ndim": tensor.ndim,
        "numel": tensor.numel,
        "dtype": tensor.dtype,
        "is_floating_point": tensor.dtype.is_floating_point,
        "is_complex": tensor.dtype.is_complex,
    }
    return answers[name]


def _size(name: str, tensor: TensorValue, rest: Sequence[Value], span: Span) -> Value:
    if not rest:
        return tensor.shape
    dim = rest[0]
    if len(rest) > 1 or type(dim) is not int:
        fail(codes.WRONG_KIND, f"`{name}` takes a tensor and one dim, an int", span)
    if not -tensor.ndim <= dim < tensor.ndim:
        fail(
            codes.WRONG_KIND,
            f"there is no dim {dim}: the tensor has {tensor.ndim} dimensions",
            span,
            values=[describe(tensor)],
        )
    return tensor.shape[dim]


def _isqrt(arguments: Sequence[Value], span: Span) -> int:
    number = whole(arguments[0]) if len(arguments) == 1 else None
    if type(number) is not int:
        fail(codes.WRONG_KIND, "`isqrt` takes an int, and gives the whole part of its square root", span)
    if number < 0:
        fail(codes.NUMBER_RANGE, f"{number} has no real square root", span)
    return math.isqrt(number)


def _lookup(name: str, arguments: Sequence[Value], span: Span) -> Value:
    arguments = [{} if arguments[:1] == [None] else arguments[0], *arguments[1:]] if arguments else arguments
    table, text = arguments[:2] if 2 <= len(arguments) <= 3 else (None, None)
    if not isinstance(table, Mapping) or not isinstance(text, str):
        shown = [", ".join(kind_of(value) for value in arguments)] if arguments else []
        fail(codes.WRONG_KIND, f"`{name}` takes a dict, a text to look up, and perhaps a default", span, values=shown)
    key = text if name == "lookup" else _matching(table, text, span)
    if key is not None and key in table:
        return table[key]
    if len(arguments) == 3:
        return arguments[2]
    near = did_you_mean(text, list(table)) if name == "lookup" else []
    what = f"the dict has no `{text}`" if name == "lookup" else f"no key of the dict matches `{text}`"
    hint = [f"did you mean `{near[0]}`?"] if near else []
    known = f"its keys are {join_words([f'`{one}`' for one in table], limit=6)}" if table else "the dict is empty"
    if len(table) == 1:
        known = f"its only key is `{next(iter(table))}`"
    fail(codes.VALUE_MISSING, what, span, notes=[known], help=[*hint, f"give a default: `{name}(…, default=…)`"])


def _matching(table: Mapping[str, Value], text: str, span: Span) -> str | None:
    """Return the first key of a dict that, read as a regular expression, matches whole last segments of a text.

    As peft reads `rank_pattern` and `alpha_pattern` (`peft.utils.other.get_pattern_key`).
    """
    for key in table:
        try:
            regex.compile(key)  # alone, so that places in an error are those of the key
            found = regex.match(rf"(.*\.)?({key})$", text, timeout=REGEX_SECONDS)
        except regex.error as error:
            fail(codes.WRONG_KIND, f"the key `{key}` of the dict is not a regular expression: {error}", span)
        except TimeoutError:
            fail(codes.WRONG_KIND, f"the key `{key}` of the dict takes too long on `{text}`", span)
        if found is not None:
            return key
    return None


def _value(arguments: Sequence[Value], span: Span, values: PlainValues) -> Value:
    path = arguments[0] if 1 <= len(arguments) <= 2 else None
    if not _is_path(path):
        fail(
            codes.WRONG_KIND,
            "`value` takes the path of a plain value, as dotted text or as a list of keys, and perhaps a default",
            span,
        )
    try:
        found = values.value_at(path, span)
    except KeyError:
        if len(arguments) == 2:
            return arguments[1]
        shown = path if isinstance(path, str) else as_list(path)
        fail(
            codes.VALUE_MISSING,
            f"the checkpoint has no plain value at `{shown}`",
            span,
            help=f"give a default: `value({in_rules(shown)}, 0)`",
        )
    return bounded(found, span)


def _is_path(value: Value) -> TypeGuard[str | tuple[str | int, ...]]:
    return isinstance(value, str) or (
        isinstance(value, tuple) and bool(value) and all(isinstance(one, str) or type(one) is int for one in value)
    )


def _text(arguments: Sequence[Value], span: Span, values: PlainValues) -> Value:
    if not 1 <= len(arguments) <= 2 or not isinstance(arguments[0], str):
        fail(codes.WRONG_KIND, "`metadata` takes the name of a text, and perhaps a default", span)
    try:
        return values.text_at(arguments[0])
    except KeyError:
        if len(arguments) == 2:
            return arguments[1]
        fail(
            codes.VALUE_MISSING,
            f"the checkpoint has no text `{arguments[0]}` in its metadata",
            span,
            help=f"give a default: `metadata({show_text(arguments[0])}, '')`",
        )
