"""What explanations look at: the tensors of all sides, and which of them may have to do with a new one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from statex.core.dtypes import Kind
from statex.core.header import TensorType
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.grammar import tree
from statex.inferring.adapters import AdapterConfig
from statex.inferring.formulas import Formula, ReadTensor
from statex.inferring.sides import CheckpointSide, TensorSide
from statex.relating.words import WordWeights, class_of, numbers_in

_TRIED = 4
"""So many old tensors, the most alike in names, are tried as what a new one was."""
_HELD, _HELD_SMALL = 4, 1024
_SMALL = 16 << 10
"""Bytes of tensors that many are held of."""

Answer = TypeVar("Answer")
Inputs = Mapping[str, CheckpointSide]
"""Further inputs by name."""


class Evidence:
    """The two checkpoints and further inputs, as far as explanations ask for them.

    `free` are the old keys that nothing is made of, in their order; `left` are the new ones that nothing explains.
    `origins` are the old keys of new tensors that are old ones. `configs` are those of adapters among the inputs.
    """

    def __init__(
        self,
        old: TensorSide,
        new: CheckpointSide,
        inputs: Inputs,
        left: Collection[str],
        free: Iterable[str],
        origins: Mapping[str, str],
        configs: Mapping[str, AdapterConfig],
    ) -> None:
        self.old, self.new, self.inputs, self.configs = old, new, inputs, configs
        self.left = tuple(left)
        self.free = dict.fromkeys(free)
        self.origins = dict(origins)
        self.known: dict[tree.Expr, Formula] = {}
        """Formulas that hold for other keys, by their expressions."""
        self.wanted = lru_cache(1)(self._wanted)
        self._large, self._small = lru_cache(_HELD)(self._tensor), lru_cache(_HELD_SMALL)(self._tensor)
        self._once: dict[Callable[[Evidence], object], object] = {}
        self._ranked = lru_cache(None)(self._ranked_classes)

    # --- tensors -------------------------------------------------------------------------------------------------

    def kind(self, operand: ReadTensor) -> TensorType:
        """Return the type of an operand."""
        return self._side(operand).kinds[operand.key]

    def _side(self, operand: ReadTensor) -> TensorSide:
        return self.old if operand.input is None else self.inputs[operand.input]

    def tensor(self, operand: ReadTensor) -> Any:
        """Return an operand as a tensor of torch; small ones are held for long."""
        return (self._small if self.kind(operand).nbytes <= _SMALL else self._large)(operand)

    def _tensor(self, operand: ReadTensor) -> Any:
        return tensor_of(self._side(operand), operand.key)

    def _wanted(self, key: str) -> Any:
        """Return a new tensor as one of torch."""
        return tensor_of(self.new, key)

    # --- names ---------------------------------------------------------------------------------------------------

    @cached_property
    def _weights(self) -> WordWeights:
        keys = [*self.left, *self.old.kinds, *(key for side in self.inputs.values() for key in side.kinds)]
        return WordWeights(dict.fromkeys(map(class_of, keys)))

    def alike(self, one: str, other: str) -> float:
        """Return how alike the names of two keys are; of two of a class, those of equal numbers are more alike."""
        equal = numbers_in(one) == numbers_in(other)
        return self._weights.alike(class_of(one), class_of(other)) + (0.5 if equal else 0.0)

    @cached_property
    def _by_class(self) -> Mapping[tuple[int, ...], Mapping[str, list[str]]]:
        """The old keys of floats by shape and class."""
        found: defaultdict[tuple[int, ...], defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for key, kind in self.old.kinds.items():
            if kind.dtype.kind is Kind.FLOAT:
                found[kind.shape][class_of(key)].append(key)
        return found

    def _ranked_classes(self, shape: tuple[int, ...], name: str) -> list[str]:
        classes = self._by_class.get(shape, {})
        return sorted(classes, key=lambda one: -self._weights.alike(one, name))

    def bases(self, key: str, shape: tuple[int, ...] | None = None) -> list[str]:
        """Return the free old keys that a new one may have been, the most alike first; of its shape, if of no other."""
        shape = self.new.kinds[key].shape if shape is None else shape
        numbers = numbers_in(key)
        by_class = self._by_class.get(shape, {})
        found = [key] if key in by_class.get(class_of(key), ()) and key in self.free else []
        others: list[str] = []
        for name in self._ranked(shape, class_of(key)):
            own = sorted(
                (one for one in by_class[name] if one in self.free), key=lambda one: numbers_in(one) != numbers
            )
            found += own[:1]
            others = others or own[1:_TRIED]
            if len(found) > _TRIED:
                break
        return list(dict.fromkeys([*found[: _TRIED + 1], *others]))

    @cached_property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of old floats."""
        return tuple(self._by_class)

    @cached_property
    def _modules(self) -> Mapping[str, list[str]]:
        found: defaultdict[str, list[str]] = defaultdict(list)
        for key in self.old.kinds:
            found[key.rpartition(".")[0]].append(key)
        return found

    def beside(self, key: str) -> list[str]:
        """Return the other old keys of a module."""
        return [one for one in self._modules[key.rpartition(".")[0]] if one != key]

    def once(self, question: Callable[[Evidence], Answer]) -> Answer:
        """Return the answer to a question that does not change, which is asked once."""
        if question not in self._once:
            self._once[question] = question(self)
        found: Answer = self._once[question]  # type: ignore[assignment]
        return found

    def by_use(self, formulas: Iterable[Formula]) -> list[Formula]:
        """Return formulas, first those that are written as others that hold."""
        return sorted(formulas, key=lambda one: one.value not in self.known)


def tensor_of(side: TensorSide, key: str) -> Any:
    """Return a tensor of a side as one of torch."""
    import torch

    kind = side.kinds[key]
    data = bytearray(side.bits(key).tobytes())
    return torch.frombuffer(data, dtype=torch_dtype(torch, kind.dtype.name)).reshape(kind.shape)
