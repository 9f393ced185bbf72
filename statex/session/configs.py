"""Configurations that are copied along: the dtype in a `config.json` follows that of the tensors.

One string of the file is exchanged, at its place in the text; every other byte stays as it was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from statex.checkpoint import OtherFile, read_whole
from statex.core.dtypes import DType
from statex.core.header import TensorInfo, TensorType
from statex.core.source import Span
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.plan import Plan

_NAME = "config.json"
_KEYS = ("torch_dtype", "dtype")
_QUANTIZED = "quantization_config"
_MODELS = ("float64", "float32", "float16", "bfloat16")
"""The dtypes that torch can make models in."""
_LARGEST = 16 << 20
_MARK = "\ufeff"
"""The byte order mark, with which some editors begin a file."""
_BLANKS = re.compile(r"[ \t\r\n]*")
_PREFIX = "torch."


@dataclass(frozen=True)
class ConfigChange:
    """What a copy of a configuration says otherwise than the file it was copied from."""

    file: str
    key: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key} {self.before} -> {self.after}"


@dataclass(frozen=True)
class Stated:
    """A dtype that a configuration states: under which key, and where its string is in the text."""

    key: str
    value: str
    start: int
    end: int

    @property
    def name(self) -> str:
        """The name of the dtype."""
        return self.value.removeprefix(_PREFIX)

    def with_name(self, name: str) -> str:
        """Return a value of the same form for another dtype."""
        return f"{_PREFIX if self.value.startswith(_PREFIX) else ''}{name}"


@dataclass(frozen=True)
class Upkeep:
    """The files that are copied along, what is changed in them, and what is not and perhaps should be."""

    copy: tuple[OtherFile, ...]
    changes: tuple[ConfigChange, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()


def kept_up(files: tuple[OtherFile, ...], plan: Plan, span: Span | None) -> Upkeep:
    """Return the files of an output with the dtypes that its tensors have now; `span` is where a recipe names it.

    Raises:
        StatexError: SX601, SX609 for a configuration that cannot be read.
    """
    before = _floats(info.type for info in plan.header.entries.values() if isinstance(info, TensorInfo))
    after = _floats(output.type for output in plan.outputs.values() if output.type is not None)
    config = next((file for file in files if file.path.name == _NAME), None)
    if config is None or before == after:
        return Upkeep(files)
    data = read_whole(config, _LARGEST)
    text = _text(data)
    content = _content(text)
    if data is None or text is None or content is None:
        states = data is None or b"dtype" in data.replace(b"\0", b"")  # also in UTF-16
        return Upkeep(files, warnings=(_left([], [], "it cannot be read as JSON", span),) if states else ())
    if not isinstance(content, dict):
        return Upkeep(files)
    stated, inner = list(_stated(text)), list(_inner(content))
    said = {one.name for one in stated} | {value for _, value in inner}
    if not said or [dtype.name for dtype in after] == list(said):
        return Upkeep(files)  # it says nothing, or what is right
    why = _why_not(content, stated, [name for name, _ in inner], before, after)
    if why is not None:
        return Upkeep(files, warnings=(_left(stated, inner, why, span),))
    (dtype,) = after
    changes = tuple(dict.fromkeys(ConfigChange(_NAME, s.key, s.value, s.with_name(dtype.name)) for s in stated))
    new = replace(config, held=data, content=_edited(text, stated, dtype.name))
    return Upkeep(tuple(new if file is config else file for file in files), changes)


def _floats(kinds: Iterable[TensorType]) -> list[DType]:
    found = {kind.dtype for kind in kinds if kind.dtype.is_floating_point}
    return sorted(found, key=lambda dtype: dtype.short)


def _text(data: bytes | None) -> str | None:
    try:
        return None if data is None else data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _content(text: str | None) -> Any:
    """Return what a configuration says to those who load it with Python, `None` if it is not JSON."""
    try:
        return None if text is None else json.loads(text.removeprefix(_MARK))
    except (ValueError, RecursionError):
        return None


def _stated(text: str) -> Iterator[Stated]:
    """Yield the dtypes that an object of JSON, which is known to be right, states by itself."""
    decode = json.JSONDecoder().raw_decode
    at = _after_blanks(text, _after_blanks(text, len(_MARK) if text.startswith(_MARK) else 0) + 1)
    while text[at] != "}":
        key, at = decode(text, at)
        start = _after_blanks(text, _after_blanks(text, at) + 1)
        value, at = decode(text, start)
        if key in _KEYS and isinstance(value, str):
            yield Stated(key, value, start, at)
        at = _after_blanks(text, at)
        if text[at] == ",":
            at = _after_blanks(text, at + 1)


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None, "it matches nothing, too"
    return found.end()


def _inner(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the dtypes that parts of a configuration state, with the names of these parts."""
    for name, part in content.items():
        pending = [part] if name != _QUANTIZED else []
        while pending:
            value = pending.pop()
            if isinstance(value, Mapping):
                yield from ((name, value[key]) for key in _KEYS if isinstance(value.get(key), str))
                pending.extend(value.values())
            elif isinstance(value, list):
                pending.extend(value)


def _why_not(
    content: Mapping[str, Any],
    stated: Sequence[Stated],
    parts: Sequence[str],
    before: Sequence[DType],
    after: Sequence[DType],
) -> str | None:
    """Say why it cannot be told what a configuration should say now; `None` if it can."""
    if content.get(_QUANTIZED) is not None:
        return f"it has a `{_QUANTIZED}`"
    twice = [key for key in _KEYS if len({one.value for one in stated if one.key == key}) > 1]
    if twice:
        return f"it states `{twice[0]}` twice"
    if parts:
        return f"`{parts[0]}` has one of its own"
    if len(before) != 1 or {one.name for one in stated} != {before[0].name}:
        return f"the tensors of the input are {join_words([d.short for d in before], limit=4) or 'no floats'}"
    if len(after) != 1:
        return f"the tensors of the output are {join_words([d.short for d in after], limit=4) or 'no floats'}"
    return f"models are not made in {after[0]}" if after[0].name not in _MODELS else None


def _left(stated: Sequence[Stated], inner: Sequence[tuple[str, str]], why: str, span: Span | None) -> Diagnostic:
    said = [f"{one.key} {one.value}" for one in stated] + [f"{value} in `{name}`" for name, value in inner]
    what = f"`{_NAME}` still says {join_words(said, limit=3)}" if said else f"`{_NAME}` may state another dtype"
    return diagnostic(
        lints.CONFIG_KEPT,
        f"{what}, and dtypes have changed",
        span,
        notes=[f"it is copied as it is, because {why}"],
        help="change it by hand, or say that this is meant: "
        + ("--no-update-config" if span is None else "`update_config: false`"),
    )


def _edited(text: str, stated: Sequence[Stated], name: str) -> bytes:
    parts, at = [], 0
    for one in stated:
        parts += [text[at : one.start], json.dumps(one.with_name(name))]
        at = one.end
    return "".join([*parts, text[at:]]).encode()
