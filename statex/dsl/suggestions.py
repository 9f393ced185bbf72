"""What was probably meant: near operations and near keys."""

from __future__ import annotations

from collections.abc import Iterable

from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.ops import OPERATIONS, QUERIES
from statex.source import Span

_ELSEWHERE = {
    "t": "transpose", "view": "reshape", "to": "cast", "type": "cast", "astype": "cast", "float": "cast(f32)",
    "half": "cast(f16)", "bfloat16": "cast(bf16)", "concat": "cat", "concatenate": "cat", "split": "sections",
    "unbind": "unstack", "tensor_split": "sections", "vstack": "cat", "hstack": "cat", "swapaxes": "transpose",
    "select": "it[index]", "slice": "it[start:stop]", "len": "count", "contiguous": "it", "clone": "it",
}  # fmt: skip
"""Names other libraries use, and what they are called here."""


def unknown_operation(name: str, span: Span) -> Diagnostic:
    """Return the diagnostic for a call of something that is no operation."""
    known = [*OPERATIONS, *(query.name for query in QUERIES)]
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else did_you_mean(name, known)
    helps = [f"did you mean `{near[0]}`?"] if near else ["`statex ops` lists all operations"]
    return diagnostic(codes.UNKNOWN_OPERATION, f"there is no operation `{name}`", span, help=helps)


def near_keys(key: str, keys: Iterable[str]) -> list[str]:
    """Return up to one existing key that looks like this one."""
    return did_you_mean(key, list(keys))
