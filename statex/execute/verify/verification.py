"""Verification: statically over headers, then by torch's own `load_state_dict`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from statex.core.header import KeyPath, OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import as_list
from statex.core.quoting import show_label
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail
from statex.diagnostics.codes import target as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.metadata import copied
from statex.execute.verify.suggest_rules import pair, retypes
from statex.execute.verify.target import Target

Type = TensorType | None
"""The type of an entry; `None` for one that is no tensor."""

Paths = Mapping[str, KeyPath]
NOT_NESTED: Paths = {}

EXAMPLES = 8
"""How many keys of each kind a table shows."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """How the keys and types of a result differ from those of a target; empty where they agree."""

    target: str
    agreeing: int
    expected: int
    missing: Mapping[str, Type] = field(default_factory=dict)
    unexpected: Mapping[str, Type] = field(default_factory=dict)
    shapes: Mapping[str, tuple[Type, Type]] = field(default_factory=dict)
    dtypes: Mapping[str, tuple[Type, Type]] = field(default_factory=dict)
    allowed: tuple[str, ...] = ()
    """Keys that differ and are forgiven by `allow`."""
    nested: Mapping[str, tuple[KeyPath, KeyPath]] = field(default_factory=dict)
    """Where keys of both stand, in the result and in the target, if that is not in the same dicts."""

    def __repr__(self) -> str:
        return f"<statex.Comparison with {show_label(self.target)}: {different(self) or self.agreement}>"

    @property
    def agreement(self) -> str:
        """How many keys agree, and how many `allow` forgives, in words."""
        if not self.allowed:
            return f"all {self.agreeing} keys agree"
        return f"{self.agreeing} of {self.expected} keys agree, `allow` forgives {len(self.allowed)}"

    @property
    def different(self) -> Mapping[str, tuple[Type, Type]]:
        """The types, of the result and of the target, of the keys of both whose shapes or dtypes differ."""
        return {**self.shapes, **self.dtypes}

    @property
    def fits(self) -> bool:
        """True where nothing differs."""
        return not (self.missing or self.unexpected or self.shapes or self.dtypes or self.nested)


def types_of(entries: Mapping[str, TensorInfo | OpaqueInfo]) -> dict[str, Type]:
    """Return the types of a header's entries."""
    return {key: info.type if isinstance(info, TensorInfo) else None for key, info in entries.items()}


def compare(
    result: Mapping[str, Type],
    target: Target,
    is_allowed: Callable[[str, str], bool] = lambda kind, key: False,
    paths: Paths = NOT_NESTED,
) -> Comparison:
    """Compare keys, shapes and dtypes of a result with a target; `is_allowed(kind, key)` forgives.

    `paths` are the places of keys of the result that are nested in dicts.
    """
    wanted = types_of(target.header.entries)
    missing = {key: kind for key, kind in wanted.items() if key not in result}
    unexpected = {key: kind for key, kind in result.items() if key not in wanted}
    both = [(key, result[key], wanted[key]) for key in result if key in wanted]
    shapes = {key: (a, b) for key, a, b in both if a and b and a.shape != b.shape}
    dtypes = {key: (a, b) for key, a, b in both if a and b and a.shape == b.shape and a.dtype != b.dtype}
    nested = _nested(result, wanted, paths, target.header.paths)
    forgiven = [k for k in missing if is_allowed("missing", k)] + [k for k in unexpected if is_allowed("unexpected", k)]
    allowed = set(forgiven)
    return Comparison(
        target=target.name,
        agreeing=len(both) - len({*shapes, *dtypes, *nested}),
        expected=len(wanted),
        missing={k: v for k, v in missing.items() if k not in allowed},
        unexpected={k: v for k, v in unexpected.items() if k not in allowed},
        shapes=shapes,
        dtypes=dtypes,
        allowed=tuple(forgiven),
        nested=nested,
    )


def _nested(
    result: Mapping[str, Type], wanted: Mapping[str, Type], paths: Paths, others: Paths
) -> dict[str, tuple[KeyPath, KeyPath]]:
    """Return the paths of keys of both that differ."""
    if not paths and not others:
        return {}
    both = [(key, paths.get(key, (key,)), others.get(key, (key,))) for key in result if key in wanted]
    return {key: (one, other) for key, one, other in both if one != other}


def mismatch(
    found: Comparison,
    result: Mapping[str, Type],
    origin: Callable[[str], str] = lambda key: "",
    subject: str = "the result",
    flat: Callable[[], str] = str,
) -> Diagnostic:
    """Return the one diagnostic for a result that does not fit; `origin(key)` says which rule made or took a key.

    `flat()` is how the result is had without dicts in it.
    """
    paired = pair(found.missing, found.unexpected, result)
    return diagnostic(
        codes.MISMATCH,
        f"{subject} does not fit {found.target}: {different(found)} ({found.agreeing} of {found.expected} keys agree)",
        rows=[*_rows(found, paired.partners, origin), *_nested_rows(found)],
        notes=[f"`allow` forgives {len(found.allowed)} more"] if found.allowed else (),
        help=[*paired.lines, *retypes(found.shapes, found.dtypes, result), *_flattened(found, flat)],
    )


def different(found: Comparison) -> str:
    """Return how many keys of each kind do not fit, in words; nothing where all do."""
    parts = {
        "missing": len(found.missing),
        "unexpected": len(found.unexpected),
        "of wrong shape": len(found.shapes),
        "of wrong dtype": len(found.dtypes),
        "nested differently": len(found.nested),
    }
    return ", ".join(f"{count} {what}" for what, count in parts.items() if count)


def _rows(found: Comparison, pairs: Mapping[str, str], origin: Callable[[str], str]) -> list[tuple[str, ...]]:
    back = {unexpected: missing for missing, unexpected in pairs.items()}
    rows: list[tuple[str, ...]] = []
    for number, (key, kind) in enumerate(found.missing.items()):
        if number == EXAMPLES:
            rows.append(("missing", f"and {len(found.missing) - EXAMPLES} more"))
            break
        said = [origin(key), f"same type as unexpected `{pairs[key]}`" if key in pairs else ""]
        rows.append(("missing", key, _show(kind), "; ".join(s for s in said if s)))
    for number, (key, kind) in enumerate(found.unexpected.items()):
        if number == EXAMPLES:
            rows.append(("unexpected", f"and {len(found.unexpected) - EXAMPLES} more"))
            break
        said = [origin(key), f"same type as missing `{back[key]}`" if key in back else ""]
        rows.append(("unexpected", key, _show(kind), "; ".join(s for s in said if s)))
    for what, differing in (("shape", found.shapes), ("dtype", found.dtypes)):
        for number, (key, (actual, wanted)) in enumerate(differing.items()):
            if number == EXAMPLES:
                rows.append((what, f"and {len(differing) - EXAMPLES} more"))
                break
            rows.append((what, key, _show(actual), "; ".join(s for s in (f"needs {_show(wanted)}", origin(key)) if s)))
    return rows


def _nested_rows(found: Comparison) -> list[tuple[str, ...]]:
    """Return a row for each dict of the result whose keys are elsewhere in the target, or the other way round."""
    inside: dict[tuple[KeyPath, KeyPath], list[str]] = {}
    for key, (one, other) in found.nested.items():
        inside.setdefault((one[:-1], other[:-1]), []).append(key)
    rows: list[tuple[str, ...]] = []
    for number, ((one, other), keys) in enumerate(inside.items()):
        if number == EXAMPLES:
            rows.append(("nested", f"and {len(inside) - EXAMPLES} more dicts"))
            break
        rows.append(("nested", join_words(keys, limit=2), f"{_inside(one)} here, {_inside(other)} in {found.target}"))
    return rows


def _inside(path: KeyPath) -> str:
    return f"in the dict {as_list(path)}" if path else "flat"


def _flattened(found: Comparison, flat: Callable[[], str]) -> list[str]:
    said = flat() if any(len(other) == 1 for _, other in found.nested.values()) else ""
    return [said] if said else []


def _show(kind: Type) -> str:
    return str(kind) if kind is not None else "not a tensor"


def load_for_real(target: Target, state: Mapping[str, Any], found: Comparison) -> None:
    """Load a state into the target's model on the meta device with `load_state_dict(strict=True, assign=True)`.

    The model keeps nothing: it was built for this. Without a model (`--like`) there is nothing to do.

    Raises:
        StatexError: SX504 with torch's own words.
    """
    if target.module is None:
        return
    strict = not found.allowed
    try:
        outcome = target.module.load_state_dict(_private(state), strict=strict, assign=True)
    except Exception as error:
        fail(codes.REFUSED, f"load_state_dict of {target.name} refuses the result", notes=_lines(error))
    left = [k for k in (*outcome.missing_keys, *outcome.unexpected_keys) if k not in found.allowed]
    if left:
        fail(codes.REFUSED, f"load_state_dict of {target.name} reports further keys: {', '.join(left[:3])}")


def _lines(error: Exception) -> list[str]:
    return [line.expandtabs(2) for line in str(error).splitlines()[:12]]


def _private(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Return the state with Parameters and a `_metadata` of its own: load_state_dict writes into what it is given.

    A Parameter takes the `requires_grad` of the one it replaces, `_metadata` the `assign`.
    """
    copy: OrderedDict[str, Any] = OrderedDict((key, _unbound(value)) for key, value in state.items())
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        copy._metadata = copied(metadata)  # type: ignore[attr-defined]
    return copy


def _unbound(value: Any) -> Any:
    import torch
    from torch.nn.parameter import is_lazy

    return value.detach() if isinstance(value, torch.Tensor) and not is_lazy(value) else value


def verify_types(
    result: Mapping[str, Type],
    target: Target,
    is_allowed: Callable[[str, str], bool] = lambda kind, key: False,
    origin: Callable[[str], str] = lambda key: "",
    subject: str = "the result",
    paths: Paths = NOT_NESTED,
    flat: Callable[[], str] = str,
) -> Comparison:
    """Compare and raise where something differs; `subject` is what messages call the result.

    `paths` and `flat` are those of `compare` and `mismatch`.

    Raises:
        StatexError: SX501.
    """
    found = compare(result, target, is_allowed, paths)
    if not found.fits:
        raise StatexError([mismatch(found, result, origin, subject, flat)])
    return found
