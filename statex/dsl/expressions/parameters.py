"""Values given to a program from outside: their types, and how they are read from a command line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from statex.core.dtypes import BY_NAME, DType
from statex.core.record import record
from statex.core.source import Source, Span
from statex.diagnostics import fail
from statex.diagnostics.codes import names as codes
from statex.diagnostics.suggest import did_you_mean
from statex.dsl.expressions.scalars import bounded
from statex.dsl.values import PatternValue, Value, describe, is_unknown, kind_of
from statex.grammar import tree

TYPES = ("int", "float", "bool", "str", "dtype", "list", "dict")


@record
class Given:
    """A value for a parameter.

    `typed` is false for text from a command line, which is read as the declared type. `lenient` is true for values of
    a parameter file, which may hold more than the program declares. `span` is where a rule file gives it. `origin` is
    what messages call a value of a file that a recipe names, which may be a stranger's: they do not show such a value.
    """

    value: Any
    span: Span | None = None
    typed: bool = False
    lenient: bool = False
    origin: str = ""


def known_type(node: tree.Name) -> str:
    """Return the name of a parameter type.

    Raises:
        StatexError: SX208 for an unknown one.
    """
    if node.name in TYPES:
        return node.name
    near = {"integer": "int", "string": "str", "text": "str", "boolean": "bool", "number": "float", "double": "float",
            "object": "dict", "mapping": "dict"}  # fmt: skip
    near_type = near.get(node.name) or next(iter(did_you_mean(node.name, TYPES)), None)
    fail(
        codes.UNKNOWN_TYPE,
        f"there is no parameter type `{node.name}`",
        node.span,
        help=f"did you mean `{near_type}`?" if near_type else f"the types are {', '.join(TYPES)}",
    )


def checked(node: tree.Param, type_name: str | None, given: Given, default: Value) -> Value:
    """Return a given value as the declared type, or as the type of the default where none is declared.

    Raises:
        StatexError: SX206, SX217 for numbers of more than 64 bits.
    """
    wanted = type_name or type_of(default)
    value = from_python(given.value) if given.typed else from_text(given.value, wanted)
    if is_unknown(value):
        return value
    span = given.span or node.span
    return _fit(node.name.name, wanted, bounded(value, span), span, given.origin)


def overridden(name: str, declared: Given, given: Given | None) -> Value:
    """Return the value of a parameter that is declared with one, and may be given another of the same type.

    Raises:
        StatexError: SX206, SX217 for numbers of more than 64 bits.
    """
    span = declared.span or Span(Source("<parameters>", name), 0, len(name))
    value = bounded(from_python(declared.value), span)
    if given is None:
        return value
    wanted = type_of(value)
    other = from_python(given.value) if given.typed else from_text(given.value, wanted)
    at = "" if given.span is not None else "given anew from outside"
    return _fit(name, wanted, bounded(other, given.span or span), given.span or span, at=at)


def check_default(node: tree.Param, type_name: str | None, default: Value) -> Value:
    """Return a default, after checking it against the declared type.

    Raises:
        StatexError: SX206.
    """
    assert node.default is not None
    if type_name is None or default is None or is_unknown(default):
        return default
    return _fit(node.name.name, type_name, default, node.default.span)


def _fit(name: str, wanted: str | None, value: Value, span: Span, origin: str = "", at: str = "") -> Value:
    if wanted == "dtype" and isinstance(value, str) and value.removeprefix("torch.") in BY_NAME:
        return BY_NAME[value.removeprefix("torch.")]
    if wanted == "float" and type(value) is int:
        return float(value)
    if wanted is None or type_of(value) == wanted:
        return value
    fail(
        codes.PARAM_VALUE,
        f"the parameter `{name}` takes {_article(wanted)}, and {origin or 'this'} is {kind_of(value)}",
        span,
        at=at,
        values=[f"{name} = {describe(value)}"] if not origin else (),
        help=_WRITTEN.get(wanted, ()),
    )


_WRITTEN = {
    "list": "a list is written as in JSON: `[1, 2]`",
    "dict": 'a dict is written as in JSON: `{"name": 1}`',
    "dtype": "dtypes have torch's names, or short ones: `bfloat16`, `bf16`",
}


def _article(type_name: str) -> str:
    return {"int": "an int", "str": "text"}.get(type_name, f"a {type_name}")


def reach(content: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path of nested mappings; KeyError if there is none."""
    found: Any = content
    for segment in path.split("."):
        if not isinstance(found, Mapping):
            raise KeyError(path)
        found = found[segment]
    return found


def paths_in(content: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Yield the dotted paths of what is in nested mappings, but not of what is in lists."""
    for key, value in content.items():
        yield f"{before}{key}"
        if isinstance(value, Mapping):
            yield from paths_in(value, f"{before}{key}.")


def from_documents(node: tree.Param, documents: Mapping[str, Mapping[str, Any]]) -> Given | None:
    """Return the value that files of parameters have at the path of a `param … from`; `None` where none has it.

    Raises:
        StatexError: SX206 where two files have different values there.
    """
    assert node.path is not None
    found: dict[str, Any] = {}
    for label, content in documents.items():
        with suppress(KeyError):
            found[label] = reach(content, node.path.value)
    found = {label: value for label, value in found.items() if value is not None}
    (first, *others) = found or [""]
    for other in others:
        if found[other] != found[first]:
            fail(
                codes.PARAM_VALUE,
                f"`{node.path.value}` is not the same in `{first}` and in `{other}`",
                node.path.span,
                help=f"-D {node.name.name}=… says which",
            )
    return Given(found[first], node.path.span, typed=True) if found else None


def type_of(value: Value) -> str | None:
    """Return the name of the parameter type that a value has; `None` for none."""
    for python, name in (
        (bool, "bool"), (int, "int"), (float, "float"), (str | PatternValue, "str"), (DType, "dtype"), (tuple, "list"),
        (Mapping, "dict"),
    ):  # fmt: skip
        if isinstance(value, python):
            return name
    return None


def from_python(value: Any) -> Value:
    """Return a Python value as one of the language: lists as tuples, torch's dtypes as dtypes, numpy's scalars."""
    if isinstance(value, list | tuple):
        return tuple(from_python(item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): from_python(item) for key, item in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "item") and value.shape == ():
        scalar: Value = value.item()
        return scalar
    name = str(value)
    if not isinstance(value, str) and name.startswith("torch.") and name.removeprefix("torch.") in BY_NAME:
        return BY_NAME[name.removeprefix("torch.")]
    found: Value = value  # of what is none, `type_of` knows no type, and nothing declared takes it
    return found


def to_python(value: Value) -> Any:
    """Return a value as a callable of Python takes it: lists, which are tuples here, as lists."""
    if isinstance(value, Mapping):
        return {key: to_python(item) for key, item in value.items()}
    return [to_python(item) for item in value] if isinstance(value, tuple) else value


def from_text(text: str, wanted: str | None) -> Value:
    """Read a value of a command line: text where text is wanted, else JSON where it is JSON, a dtype, or text."""
    if wanted == "str":
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = {"True": True, "False": False}.get(text, text)
    if isinstance(value, dict) and wanted != "dict":
        return text
    if wanted == "bool" and value in ("yes", "no", "on", "off"):
        return value in ("yes", "on")
    return from_python(value)
