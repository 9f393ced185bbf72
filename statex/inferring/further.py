"""What new tensors are made of that further inputs have: copies, low-rank updates, and means."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from statex.core.dtypes import Kind
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.grammar import factory as make
from statex.grammar import tree
from statex.inferring.sides import CheckpointSide, Identity, TensorSide
from statex.relating.names.covering import cover
from statex.relating.program import NotedRule, wild
from statex.relating.relations import MadeTensor, Relations
from statex.relating.values import SourceTensor
from statex.relating.words import WordWeights

Inputs = Mapping[str, CheckpointSide]
"""Further inputs by name."""

_IT = make.name("it")
_DOWN_UP = (
    ("lora_A", "lora_B"),
    ("lora_down", "lora_up"),
    ("lora.down", "lora.up"),
    ("lora_embedding_A", "lora_embedding_B"),
)
"""What the two factors of a low-rank update are called: the one that is applied first, and the other."""
_TRIED = 4
"""So many old tensors, the most alike in names, are tried as what was updated or averaged."""
_NEAR = 1e-3
"""Of the size of what was added, what may be left for a factor to be looked at closely."""


@dataclass
class FoundFurther:
    """New keys that further inputs explain: by copies, and by what is computed with the tensor that has the key."""

    copies: list[tuple[str, str, str]] = field(default_factory=list)
    """Inputs, their keys, and new keys."""
    updates: list[tuple[str, float, str, str, str]] = field(default_factory=list)
    """Inputs, factors, the keys of the first and the second matrix, and new keys."""
    means: list[tuple[WeightedMean, tuple[str, ...], str]] = field(default_factory=list)
    """How a mean is computed, the keys in each input, and new keys."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that are read."""
        names = [
            *(name for name, _, _ in self.copies),
            *(one[0] for one in self.updates),
            *(name for mean, _, _ in self.means for name in mean.inputs),
        ]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class WeightedMean:
    """A mean as rules write it: of the current tensor and those of `inputs`, the last of two with a weight."""

    inputs: tuple[str, ...]
    weight: float | None = None
    form: str = "sum"

    def of(self, first: Any, others: Sequence[Any]) -> Any:
        """Compute it with tensors of torch."""
        if self.weight is None:
            return sum(others, first) / (len(others) + 1)
        (other,) = others
        if self.form == "step":
            return first + (other - first) * self.weight
        return first * (1 - self.weight) + other * self.weight

    def written(self, others: Sequence[tree.Expr]) -> tree.Expr:
        """Return it as an expression over `it`."""
        if self.weight is None:
            total: tree.Expr = _IT
            for other in others:
                total = make.binary(total, "+", other)
            return make.binary(total, "/", make.number(len(others) + 1))
        (other,) = others
        weight = make.number(self.weight)
        if self.form == "step":
            return make.binary(_IT, "+", make.binary(make.binary(other, "-", _IT), "*", weight))
        rest = make.number(1 - self.weight)
        return make.binary(make.binary(_IT, "*", rest), "+", make.binary(other, "*", weight))


def with_further(
    relations: Relations, old: TensorSide, new: CheckpointSide, inputs: Inputs
) -> tuple[Relations, FoundFurther]:
    """Return relations in which what further inputs explain is explained, and what that is.

    Tensors that are computed of an old one and of others are the old one there: `rules_of` computes the rest.
    """
    return _Search(relations, old, new, inputs).run() if inputs else (relations, FoundFurther())


class _Search:
    def __init__(self, relations: Relations, old: TensorSide, new: CheckpointSide, inputs: Inputs) -> None:
        self.relations, self.old, self.new, self.inputs = relations, old, new, inputs
        self.found = FoundFurther()
        self.made = dict(relations.made)
        self.left = dict(relations.unexplained)

    def run(self) -> tuple[Relations, FoundFurther]:
        """Look for copies first, as these are certain, then for what was computed."""
        self._copies()
        used = {key for one in self.made.values() if isinstance(one, MadeTensor) for key in one.keys}
        self.free = [key for key in self.old.kinds if key not in used]
        words = [*self.left, *self.free, *(key for side in self.inputs.values() for key in side.kinds)]
        self.weights = WordWeights(dict.fromkeys(words))
        pairs = [(name, a, b) for name, side in self.inputs.items() for a, b in _factors(side)]
        for key in list(self.left):
            if key in self.new.kinds and self.new.kinds[key].dtype.kind is Kind.FLOAT:
                self._update(key, pairs) or self._mean(key)
        order = [key for key in self.new.header.entries if key in self.made]
        return replace(self.relations, made={key: self.made[key] for key in order}, unexplained=self.left), self.found

    def _copies(self) -> None:
        by_identity: dict[Identity, tuple[str, str]] = {}
        for name, side in self.inputs.items():
            for key in side.kinds:
                by_identity.setdefault(side.identity(key, _unsaid), (name, key))
        for key in [key for key in self.left if key in self.new.kinds]:
            place = by_identity.get(self.new.identity(key, _unsaid))
            if place is not None:
                self.found.copies.append((*place, key))
                del self.left[key]

    def _bases(self, key: str) -> list[str]:
        same = [one for one in self.free if self.old.kinds[one] == self.new.kinds[key]]
        return sorted(same, key=lambda one: (one != key, -self.weights.alike(one, key)))[:_TRIED]

    def _update(self, key: str, pairs: Sequence[tuple[str, str, str]]) -> bool:
        """Try `it + (b @ a) * k`."""
        kind = self.new.kinds[key]
        if kind.ndim != 2:
            return False
        fitting = [
            (name, a, b) for name, a, b in pairs
            if (self.inputs[name].kinds[b].shape[0], self.inputs[name].kinds[a].shape[1]) == kind.shape
            and self.inputs[name].kinds[a].dtype is kind.dtype is self.inputs[name].kinds[b].dtype
        ]  # fmt: skip
        near = sorted(fitting, key=lambda one: -self.weights.alike(one[1], key))[:_TRIED]
        wanted = _tensor(self.new, key) if near else None
        for base in self._bases(key) if near else ():
            first = _tensor(self.old, base)
            for name, a, b in near:
                product = _tensor(self.inputs[name], b) @ _tensor(self.inputs[name], a)
                for factor in _weights_of(wanted - first, product):
                    if _same(first + product * factor, wanted):
                        self.found.updates.append((name, factor, a, b, key))
                        self._take(key, base)
                        return True
        return False

    def _mean(self, key: str) -> bool:
        """Try means with the tensors of inputs that have the name of the old one, or of the new one."""
        wanted = None
        for base in self._bases(key):
            keys = {name: _named_alike(side, base, key, self.new) for name, side in self.inputs.items()}
            there = {name: one for name, one in keys.items() if one is not None}
            if not there:
                continue
            wanted = _tensor(self.new, key) if wanted is None else wanted
            first = _tensor(self.old, base)
            others = {name: _tensor(self.inputs[name], one) for name, one in there.items()}
            for mean in _means(first, others, wanted):
                if _same(mean.of(first, [others[name] for name in mean.inputs]), wanted):
                    self.found.means.append((mean, tuple([there[name] for name in mean.inputs]), key))
                    self._take(key, base)
                    return True
        return False

    def _take(self, key: str, base: str) -> None:
        self.made[key] = MadeTensor(key, (base,), SourceTensor())
        self.free.remove(base)
        del self.left[key]


def _unsaid(count: int) -> None:
    """Count bytes that nobody is told of: progress is that of the two checkpoints."""


def _factors(side: CheckpointSide) -> Iterator[tuple[str, str]]:
    """Yield the keys of matrices whose product is a low-rank update: the one that is applied first, and the other."""
    for key, kind in side.kinds.items():
        for down, up in _DOWN_UP:
            other = key.replace(down, up)
            two = other != key and other in side.kinds and kind.ndim == side.kinds[other].ndim == 2
            if two and kind.shape[0] == side.kinds[other].shape[1]:
                yield key, other


def _named_alike(side: CheckpointSide, base: str, key: str, new: CheckpointSide) -> str | None:
    """Return the key of an input that is that of an old or of a new tensor, or has the same end as the old one."""
    kind = new.kinds[key]
    same = next((one for one in (base, key) if side.kinds.get(one) == kind), None)
    if same is not None:
        return same
    segments = base.split(".")
    for start in range(1, len(segments)):
        end = ".".join(segments[start:])
        near = [one for one, own in side.kinds.items() if own == kind and f".{one}".endswith(f".{end}")]
        if near:
            return near[0] if len(near) == 1 else None
    return None


def _means(first: Any, others: Mapping[str, Any], wanted: Any) -> Iterator[WeightedMean]:
    yield WeightedMean(tuple(others))
    for name, other in others.items():
        if len(others) > 1:
            yield WeightedMean((name,))
        for weight in _weights_of(wanted - first, other - first):
            if 0 < weight < 1:
                yield WeightedMean((name,), weight, "step")
                yield WeightedMean((name,), weight, "parts")


def _weights_of(difference: Any, direction: Any) -> Iterator[float]:
    """Yield the numbers that a difference may be of a direction, the shortest first; none if it lies elsewhere."""
    import torch

    one, other = difference.to(torch.float64).flatten(), direction.to(torch.float64).flatten()
    size = float(other @ other)
    if not size:
        return
    found = float(one @ other) / size
    if not torch.isfinite(torch.tensor(found)) or float((one - found * other).norm()) > _NEAR * float(one.norm()):
        return
    yield from dict.fromkeys(float(f"{found:.{digits}g}") for digits in range(1, 8))


def _tensor(side: TensorSide, key: str) -> Any:
    """Return a tensor of a side as one of torch."""
    import torch

    kind = side.kinds[key]
    data = bytearray(side.bits(key).tobytes())
    return torch.frombuffer(data, dtype=torch_dtype(torch, kind.dtype.name)).reshape(kind.shape)


def _same(one: Any, other: Any) -> bool:
    import torch

    return one.dtype is other.dtype and torch.equal(
        one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8)
    )


# --- as rules ----------------------------------------------------------------------------------------------------


def declared(names: Sequence[str]) -> list[NotedRule]:
    """Return the declarations of inputs."""
    return [NotedRule(make.input_(name)) for name in names]


def rules_of(found: FoundFurther, inputs: Inputs, state: Sequence[str]) -> Iterator[NotedRule]:
    """Yield rules for what further inputs have; `state` are the keys that the rules before them leave."""
    yield from _copied(found, inputs)
    yield from _updated(found, inputs)
    yield from _averaged(found, state)


def _copied(found: FoundFurther, inputs: Inputs) -> Iterator[NotedRule]:
    by_input: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, key, new in found.copies:
        by_input[name].append((key, new))
    for name, items in by_input.items():
        others = [key for key in inputs[name].header.entries if key not in dict(items)]
        staying = [key for key, target in items if key == target]
        rows = cover([(key,) for key in staying], [*others, *(key for key, _ in items if key not in staying)])
        for row in rows:
            (pattern,) = row.patterns()
            same = make.pattern([_plain(one) for one in pattern.pieces])
            yield NotedRule(make.copy(replace(pattern, input=name), same), (_count(row.regex, staying),))
        moved = [item for item in items if item[0] != item[1]]
        for row in cover(moved, [*others, *staying]):
            source, target = row.patterns()
            count = _count(row.regex, [key for key, _ in moved])
            yield NotedRule(make.copy(replace(source, input=name), target), (count,))


def _plain(piece: tree.Piece) -> tree.Piece:
    return make.capture(piece.name) if isinstance(piece, tree.Capture) else piece


def _updated(found: FoundFurther, inputs: Inputs) -> Iterator[NotedRule]:
    groups: defaultdict[tuple[str, float], list[tuple[str, str, str]]] = defaultdict(list)
    for name, factor, a, b, key in found.updates:
        groups[name, factor].append((a, b, key))
    for (name, factor), items in groups.items():
        own = {a for a, _, _ in items}
        others = [key for key in inputs[name].header.entries if key not in own]
        for (each, second, target), count in _rows(items, others):
            first = make.pattern([_plain(one) for one in each.pieces], name)
            product = make.binary(_reference(second, name), "@", tree.KeyRef(make.NOWHERE, first))
            scaled = product if factor == 1 else make.binary(product, "*", _number(factor))
            value = make.binary(_IT, "+", scaled)
            rule = tree.Set(make.NOWHERE, (target,), value, replace(each, input=name))
            yield NotedRule(rule, (count,))


def _rows(
    items: Sequence[tuple[str, str, str]], others: Sequence[str]
) -> Iterator[tuple[Sequence[tree.PatternNode], str]]:
    """Yield the patterns of items: one with the module captured wherever it stands, or rows of any form."""
    ends = [_around_module(item) for item in items]
    (first, *more) = ends
    if first is not None and all(one == first for one in more):
        module = make.capture("m", tree.CaptureForm.SEGMENTS)
        (before, behind), *rest = first
        if not any(_has_module(key, before, behind) for key in others):
            templates = [make.pattern([one for one in (a, make.capture("m"), b) if one]) for a, b in rest]
            yield [make.pattern([one for one in (before, module, behind) if one]), *templates], _counted(len(items))
            return
    for row in cover(items, others):
        yield row.patterns(), _count(row.regex, [item[0] for item in items])


def _around_module(item: tuple[str, ...]) -> tuple[tuple[str, str], ...] | None:
    """Return what stands before and behind the segments that keys have in common, the longest such."""
    first, *others = (key.split(".") for key in item)
    for length in range(len(first) - 1, 0, -1):
        for at in range(len(first) - length):
            found = first[at : at + length]
            places = [_place(key, found) for key in others]
            if all(place is not None for place in places):
                keys = zip((first, *others), (at, *(place or 0 for place in places)), strict=True)
                return tuple([_ends(key, place, length) for key, place in keys])
    return None


def _place(key: list[str], part: list[str]) -> int | None:
    return next((at for at in range(len(key) - len(part)) if key[at : at + len(part)] == part), None)


def _ends(key: list[str], at: int, length: int) -> tuple[str, str]:
    return "".join(f"{one}." for one in key[:at]), "".join(f".{one}" for one in key[at + length :])


def _has_module(key: str, before: str, behind: str) -> bool:
    return key.startswith(before) and key.endswith(behind) and len(key) > len(before) + len(behind)


def _averaged(found: FoundFurther, state: Sequence[str]) -> Iterator[NotedRule]:
    groups: defaultdict[WeightedMean, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for mean, keys, target in found.means:
        groups[mean].append((keys, target))
    for mean, items in groups.items():
        own = {target for _, target in items}
        others = [key for key in state if key not in own]
        staying = [target for keys, target in items if set(keys) == {target}]
        for row in cover([(key,) for key in staying], [*others, *(own - set(staying))]):
            (pattern,) = wild([row])
            here = [_reference(make.pattern([make.capture("key")]), name) for name in mean.inputs]
            yield NotedRule(make.assign(pattern, mean.written(here)), (_count(row.regex, staying),))
        for row in cover([(t, *keys) for keys, t in items if t not in staying], [*others, *staying]):
            pattern, *further = row.patterns()
            named = [_reference(one, name) for one, name in zip(further, mean.inputs, strict=True)]
            yield NotedRule(make.assign(pattern, mean.written(named)), (_count(row.regex, sorted(own)),))


def _reference(template: tree.PatternNode, input: str) -> tree.KeyRef:
    return tree.KeyRef(make.NOWHERE, replace(template, input=input))


def _number(value: float) -> tree.Expr:
    return make.number(value) if value >= 0 else tree.Unary(make.NOWHERE, "-", make.number(-value))


def _count(regex: re.Pattern[str], keys: Sequence[str]) -> str:
    return _counted(sum(regex.fullmatch(key) is not None for key in keys))


def _counted(count: int) -> str:
    return f"{count} key{'' if count == 1 else 's'}"
