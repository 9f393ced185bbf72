"""Reads the pickles in torch's files as data: names and calls, without ever importing a name.

A name stands for itself (`objects.Global`), a call for itself (`objects.ForeignCall`) but for the few that make plain
containers and tensors, which are made here. What only the code of the file's author could make is `Foreign`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from statex.checkpoint.blobs.walks import parts
from statex.checkpoint.formats.torch.pickle_fast_path import MakeTensor
from statex.checkpoint.formats.torch.pickle_machine import PickleMachine
from statex.checkpoint.formats.torch.python2_names import from_python2
from statex.checkpoint.objects import FUNCTIONS, NAMES, ForeignCall, Global
from statex.checkpoint.pickle_limits import check_tree
from statex.core.foreign import Foreign
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes

_LONGEST_NAME = 4096

Build = Callable[[Global, tuple[Any, ...]], Any]
"""Makes the result of a call that the file asks for."""
Persistent = Callable[[Any], Any]
"""Makes the storage that a persistent id names."""


class PickleReader(PickleMachine):
    """One pickle in a buffer; `label` is how messages call the file, `names` are those that it may name.

    `tensor` makes the tensors that are recognised as a whole, where that is wanted. With `foreign`, what else it names
    is carried along as `Foreign`.
    """

    def __init__(
        self,
        data: bytes,
        label: str,
        persistent: Persistent,
        build: Build,
        start: int = 0,
        names: Mapping[tuple[str, str], Global] = NAMES,
        tensor: MakeTensor | None = None,
        *,
        foreign: bool = False,
    ) -> None:
        self._persistent = persistent
        self._build = build
        self._names = names
        self._takes_foreign = foreign
        super().__init__(data, label, start, tensor)

    def _begin(self) -> None:
        super()._begin()
        self._foreign_names: dict[tuple[str, str], Foreign] = {}
        self._foreign: list[Foreign] = []

    def read(self) -> Any:
        """Return what the pickle holds.

        Raises:
            StatexError: SX603 for a name that is not allowed, SX604 for a broken pickle.
        """
        result = self.run()
        check_tree(result, self.damaged)
        if self._foreign:
            self._check_kept(result)
        return result

    def _check_kept(self, result: Any) -> None:
        """Refuse a file that makes something foreign and does not keep it: what would that be for?"""
        pending, seen = [result], set()
        while pending:
            one = pending.pop()
            inner = parts(one)
            if id(one) not in seen and (inner or isinstance(one, Foreign)):
                seen.add(id(one))
                pending.extend(inner)
        for one in self._foreign:
            if id(one) not in seen:
                unsafe(self.label, one.name)

    # --- names -------------------------------------------------------------------------------------------------

    def named(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        found = self._names.get((module, name))
        if found is not None:
            return found
        if not self._takes_foreign:
            unsafe(self.label, f"{module}.{name}")
        return self._foreign_name(module, name)

    def _foreign_name(self, module: str, name: str) -> Foreign:
        if self.protocol < 3:  # in which Python 3 writes the names that Python 2 had
            module, name = from_python2((module, name))
        known = self._foreign_names.get((module, name))
        if known is None:
            if not all(part and part.isprintable() and len(part) < _LONGEST_NAME for part in (module, name)):
                self.damaged("it names what no module can have")
            known = self._foreign_names[module, name] = Foreign("name", Global.unknown(module, name))
            self._foreign.append(known)
        return known

    def extension(self, code: int) -> NoReturn:
        """Refuse a name that is given as the number that only a registry of its author knows."""
        unsafe(self.label, f"number {code} of copyreg's extensions")

    # --- calls -------------------------------------------------------------------------------------------------

    def called(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """Return what a call makes."""
        if type(function) is Global and (function in FUNCTIONS or self._names is not NAMES):
            return self._noted(self._build(function, arguments))
        return self._made(Foreign("call", self._callee(function), arguments))

    def new(self, cls: Any, arguments: Any, keywords: Any = None) -> Any:
        """Return what `cls.__new__` makes."""
        if type(arguments) is not tuple:
            self.damaged("an object has no class")
        if keywords is not None:
            return self._made(Foreign("new with keywords", self._callee(cls), arguments, keywords))
        if type(cls) is Global and (cls in FUNCTIONS or self._names is not NAMES):
            return self._noted(self._build(cls, arguments))
        return self._made(Foreign("new", self._callee(cls), arguments))

    def instance(self, cls: Any, arguments: tuple[Any, ...]) -> Any:
        """Return an instance as protocols before 2 make it."""
        return self._made(Foreign("instance", self._callee(cls), arguments))

    def _callee(self, function: Any) -> Any:
        if not isinstance(function, Global | Foreign):
            self.damaged("what it calls cannot be called")
        if not self._takes_foreign:
            unsafe(self.label, str(function))
        return function

    def _made(self, made: Foreign) -> Foreign:
        self._foreign.append(made)
        return made

    def _noted(self, made: Any) -> Any:
        return self._made(made) if isinstance(made, Foreign) else made

    def done_to(self, target: Any, deed: str, given: list[Any]) -> None:
        """Let something happen to an object that is no plain container."""
        if isinstance(target, Foreign) and target.how != "name":
            target.deeds.append((deed, given))
        elif deed != "state":
            done = {"append": "values are appended to something other than a list",
                    "set": "items are set on something other than a dict",
                    "add": "items are added to something other than a set"}  # fmt: skip
            self.damaged(done[deed])
        elif isinstance(target, ForeignCall) and target.state is None:
            target.state = given[0]
        elif type(target) is OrderedDict:
            self._set_attributes(target, given[0])
        else:
            self._no_attributes(target, given[0])

    def _set_attributes(self, target: OrderedDict[Any, Any], state: Any) -> None:
        # What hides a method would be called in its place.
        if type(state) is not dict or not all(type(name) is str and not hasattr(OrderedDict, name) for name in state):
            self._no_attributes(target, state)
        if not self._is_metadata(state.get("_metadata")):
            self.damaged("`_metadata` is not a dict of dicts")
        self.budget.spend(len(state))
        vars(target).update(state)

    def _no_attributes(self, target: Any, state: Any) -> NoReturn:
        names = [str(k) for k in state] if isinstance(state, Mapping) else [type(state).__name__]
        fail(
            codes.UNSAFE,
            f"`{self.label}` sets attributes ({', '.join(names[:3])}) on a {type(target).__name__}: not kept",
            help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
        )

    def _is_metadata(self, value: Any) -> bool:
        """Say whether a value is what `Module.state_dict()` notes: a dict for each module by its path."""
        if value is None:
            return True
        self.budget.spend(len(value) if isinstance(value, dict) else 0)
        return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, dict) for k, v in value.items())

    def thrown_away(self, value: Any) -> None:
        """Take note of a call that is made for what it does to its first argument, such as copyreg's setters."""
        if isinstance(value, Foreign) and value.how == "call" and value is self._foreign[-1]:
            target = value.arguments[0] if value.arguments else None
            if isinstance(target, Foreign) and target.how != "name":
                target.deeds.append(("call", [value]))

    def persistent(self, id: Any) -> Any:
        """Return the storage that a persistent id names."""
        return self._persistent(id)


def unsafe(label: str, name: str) -> NoReturn:
    """Raise the diagnostic of a file that names what may be code."""
    fail(
        codes.UNSAFE,
        f"`{label}` names `{name}`, which is code: it is not loaded",
        notes=["only tensors and plain containers are read from a pickle"],
        help="where you trust the file, save the state alone: torch.save(model.state_dict(), 'state.pth')",
    )
