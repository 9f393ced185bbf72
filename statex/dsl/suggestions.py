"""Suggestions of similar operations, dtypes and keys."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from statex.core.dtypes import BY_NAME
from statex.core.source import Span
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.diagnostics.torch_words import RANDOM, dtype_word, method_call, operation_word
from statex.dsl.keys.quoting import show_tensor
from statex.dsl.ops import OPERATIONS, QUERIES, WORDS
from statex.grammar import tree

_BY_INDEX = frozenset(("select", "slice", "item", "take"))
"""What indices are for here."""

_FORMULAS = {"lerp": "it + 0.5 * (ft::{key} - it)", "addmm": "it + x @ y"}

_ATTRIBUTES = frozenset(("T", "mT", "shape", "dtype", "ndim", "data"))
_STAGE = re.compile(r"[|=][ \t]*\Z")
"""What stands before an operation that is not called in brackets."""
_ARGUMENT = re.compile(r"(?:[(,\[][ \t]*(?:\w+[ \t]*=[ \t]*)?|\bin[ \t]+)\Z")
"""What stands before a dtype: an argument, or `in` of a statement that computes in it."""


def unknown_operation(call: tree.Call) -> Diagnostic:
    """Return the diagnostic for a call of something that is not an operation."""
    name, span = call.function, call.name_span
    word, known = operation_word(name), [*OPERATIONS, *(query.name for query in QUERIES)]
    if name in RANDOM:
        helps = [_NOT_RANDOM]
    elif name in _BY_INDEX:
        helps = ["an index takes a part: `it[0]`, `it[:, 2:5]`"]
    elif name in _FORMULAS:
        helps = [f"write it as a formula: `{_FORMULAS[name]}`"]
    elif word is not None and word not in known:
        helps, span = [f"did you mean `{_as_method(call)}`?"], call.span
    else:
        near = [word] if word is not None else did_you_mean(name, known)
        helps = [f"did you mean `{near[0]}`?"] if near else ["`statex ops` lists all operations"]
    return diagnostic(codes.UNKNOWN_OPERATION, f"there is no operation `{name}`", span, help=helps)


def _as_method(call: tree.Call) -> str:
    """Write a call as that of a method of its first argument would be written in rules."""
    written = [argument.span.text for argument in call.arguments]
    return method_call(written[0] if written else "it", call.function, ", ".join(written[1:]))


_NOT_RANDOM = (
    "rules draw no random numbers; take them from the state of a new model: `input init` at the top, and "
    "`init::{key}` for the tensor of this key"
)


def unknown_name(name: str, span: Span, candidates: list[str]) -> Diagnostic:
    """Return the diagnostic for a bare word that means nothing here."""
    before = span.source.text[max(0, span.start - 80) : span.start].rpartition("\n")[2]
    dtype, operation = dtype_word(name), operation_word(name)
    if name in RANDOM:
        return diagnostic(codes.UNKNOWN_NAME, f"`{name}` is not defined", span, help=_NOT_RANDOM)
    elsewhere = dtype
    if _STAGE.search(before) is not None and _ARGUMENT.search(before) is None:
        elsewhere = operation or (f"cast({dtype})" if dtype is not None else None)
    near = [elsewhere] if elsewhere is not None else did_you_mean(name, [*candidates, *BY_NAME, *WORDS])
    helps = [f"did you mean `{near[0]}`?"] if near else []
    if elsewhere is None:
        helps.append(f"a tensor without a dot in its key is written `::{name}`, text `'{name}'`")
    return diagnostic(codes.UNKNOWN_NAME, f"`{name}` is not defined", span, help=helps)


def not_a_key(text: str, keys: Container[str]) -> str | None:
    """Return what was meant by a reference that names no key: a capture, a dtype or an attribute of a tensor."""
    braces = re.fullmatch(r"\{([^{}:]+)\}", text)
    if braces is not None:
        inside = braces.group(1).strip()
        return inside if inside.isidentifier() else f"({inside})"
    value, _, last = text.rpartition(".")
    if last in _ATTRIBUTES and (value == "it" or value in keys):
        return method_call(value if value == "it" else show_tensor(value), last)
    return dtype_word(text) if value == "torch" else None


def near_keys(key: str, keys: Iterable[str]) -> list[str]:
    """Return up to one existing key that looks like this one."""
    return did_you_mean(key, list(keys))
