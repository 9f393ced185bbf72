"""A small machine for pickle opcodes: numbers, texts, containers, the memo; others handle names and calls.

Format: Python's `pickletools`; torch writes protocol 2.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections import OrderedDict
from itertools import repeat
from typing import Any, NoReturn

from statex.checkpoint.formats.torch.pickle_fast_path import MakeTensor, read_tensor
from statex.checkpoint.formats.torch.pickle_opcodes import TABLE
from statex.checkpoint.objects import TENSOR_V2
from statex.checkpoint.pickle_limits import TOO_DEEP, Budget, check_key
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_MOST_MARKS = 1 << 16
"""Marks that may be open at once."""
_MOST_STEPS = 1 << 26
"""Opcodes: several hundred times as many as the tensors of the largest checkpoints."""

_NOTHING = object()


class AgainError(Exception):
    """Something refers to a part of a tensor that was recognised as a whole."""


class PickleMachine(ABC):
    """One pickle in a buffer; `label` is how messages call the file.

    `tensor` makes the tensors that are recognised as a whole, where that is wanted.
    """

    def __init__(self, data: bytes, label: str, start: int = 0, tensor: MakeTensor | None = None) -> None:
        self.data = data
        self.label = label
        self.at = self._start = start
        self._tensor = tensor
        self._begin()

    def _begin(self) -> None:
        self.at = self._start
        self.protocol = 0
        self.stack: list[Any] = []
        self.budget = Budget(self.damaged)
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._skipped = False
        """True once the memo lacks parts of tensors that were recognised as a whole."""
        self._done = False

    def run(self) -> Any:
        """Return what the pickle holds, its nesting unchecked.

        Raises:
            StatexError: SX604 for a broken pickle.
        """
        try:
            try:
                self._run()
            except AgainError:
                self._tensor = None
                self._begin()
                self._run()
            result = self.stack.pop()
        except (IndexError, KeyError, struct.error, ValueError, TypeError) as error:
            self.damaged(f"at byte {self.at} ({error or type(error).__name__})")
        if self.stack or self._marks:
            self.damaged("values are left over at its end")
        return result

    def _run(self) -> None:
        data, table = self.data, TABLE
        for _ in repeat(None, _MOST_STEPS):
            step = table[data[self.at]]
            self.at += 1
            step(self)
            if self._done:
                return
        self.damaged(f"it takes more than {_MOST_STEPS} steps")

    def damaged(self, why: str) -> NoReturn:
        """Raise the diagnostic of a broken pickle."""
        fail(codes.DAMAGED, f"`{self.label}` is damaged: its pickle is broken: {why}")

    # --- names, calls and storages, which the machine does not know ----------------------------------------------

    @abstractmethod
    def named(self, module: str, name: str) -> Any:
        """Return what a name stands for."""

    @abstractmethod
    def called(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Return what a call makes."""

    @abstractmethod
    def new(self, cls: Any, arguments: Any, keywords: Any = None) -> Any:
        """Return what `cls.__new__` makes."""

    @abstractmethod
    def instance(self, cls: Any, arguments: tuple[Any, ...]) -> Any:
        """Return an instance as protocols before 2 make it."""

    @abstractmethod
    def done_to(self, target: Any, deed: str, given: list[Any]) -> None:
        """Let something happen to an object that is no plain container."""

    @abstractmethod
    def thrown_away(self, value: Any) -> None:
        """Take note that something was made and is not kept where it was made."""

    @abstractmethod
    def persistent(self, id: Any) -> Any:
        """Return the storage that a persistent id names."""

    @abstractmethod
    def extension(self, code: int) -> NoReturn:
        """Refuse a name that is given as the number that only a registry of its author knows."""

    # --- operands ----------------------------------------------------------------------------------------------

    def _bytes(self, count: int) -> bytes:
        start = self.at
        self.at = start + count
        if self.at > len(self.data):
            self.damaged("it ends too early")
        return self.data[start : self.at]

    def raw(self, count: int) -> Any:
        """Return bytes."""
        return self._bytes(count)

    def text(self, count: int) -> Any:
        """Return text."""
        return self._bytes(count).decode("utf-8", "surrogatepass")

    def old_text(self, count: int) -> Any:
        """Return text of Python 2."""
        return self._bytes(count).decode("ascii")

    def _number(self, layout: struct.Struct) -> int:
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return int(value)

    def _line(self) -> str:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            self.at = len(self.data)
            self.damaged("it ends too early")
        line = self.data[self.at : end]
        self.at = end + 1
        return line.decode("utf-8")

    # --- the stack ---------------------------------------------------------------------------------------------

    def _items(self) -> list[Any]:
        """Return what stands above the last mark."""
        items = self.stack
        self.stack = self._marks.pop()
        return items

    def _mark(self) -> None:
        if len(self._marks) > _MOST_MARKS:
            self.damaged(TOO_DEEP)
        self._marks.append(self.stack)
        self.stack = []

    def _append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        else:
            self.done_to(target, "append", items)

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if len(items) % 2:
            self.damaged("a key has no value")
        if type(target) is not dict and type(target) is not OrderedDict:
            self.done_to(target, "set", items)
            return
        for place in range(0, len(items), 2):
            key = items[place]
            if type(key) is not str:
                check_key(key, self.budget)
            target[key] = items[place + 1]

    def _add_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not set:
            self.done_to(target, "add", items)
            return
        for item in items:
            check_key(item, self.budget)
        target.update(items)

    def _get(self, place: int) -> None:
        value = self._memo.get(place, _NOTHING)
        if value is TENSOR_V2 and self._tensor is not None:
            read = read_tensor(self.data, self.at, self._memo, self._tensor)
            if read is not None:
                value, self.at = read
                self._skipped = True
        elif value is _NOTHING:
            if self._skipped:
                raise AgainError
            raise KeyError(place)
        self.stack.append(value)

    def _memoize(self) -> None:
        if self._skipped:
            raise AgainError
        self._memo[len(self._memo)] = self.stack[-1]

    def _put(self, place: int) -> None:
        self._memo[place] = self.stack[-1]

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _container(self, empty: Any) -> None:
        self.budget.spend(1)
        self.stack.append(empty)

    def _pop(self) -> None:
        # As Python does: of an empty stack, the mark below it is taken.
        if self.stack:
            self.thrown_away(self.stack.pop())
        else:
            self._items()

    def _pop_mark(self) -> None:
        for value in self._items():
            self.thrown_away(value)

    def _frame(self) -> None:
        size = int.from_bytes(self._bytes(8), "little")
        if self.at + size > len(self.data):
            self.at = len(self.data)
            self.damaged(f"a frame of {size} bytes reaches beyond its end")

    def _stop(self) -> None:
        self._done = True
