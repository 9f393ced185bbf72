"""Takes averages of the parameters through a plan: a second state of the model, or a list in torch's order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from statex.core.header import KeyPath, TensorInfo
from statex.core.paths import joined
from statex.diagnostics.codes import following as codes
from statex.dsl.compile.state import source_value
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.followed import FollowAccount, Followed, Place
from statex.dsl.plan.graph import InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.dsl.values import TensorValue
from statex.following.alignment import wrapping
from statex.following.noted import read_note, with_note
from statex.following.optimizer import KnownParameter, Optimizer
from statex.following.parameters import Hints, is_buffer_name
from statex.following.problems import CannotFollowError
from statex.following.remaking import NoMomentsError
from statex.following.result import ResultParameters
from statex.following.substitution import Substitution
from statex.trees.rebuilding import like

SHADOW = "shadow_params"
"""Under which name averages stand in a list, in the order of the parameters."""


def follow_average(plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints) -> Followed:
    """Return averages beside the state as they are beside the result; `path` is where their `tree` stands.

    Raises:
        CannotFollowError: SX341 to SX347.
    """
    return (_List if SHADOW in tree else _State)(plan, path, tree, hints).run()


class _Average:
    """What is common to both forms: tensors that take the places of those of the state."""

    def __init__(self, plan: Plan, path: KeyPath, tree: Mapping[Any, Any], hints: Hints) -> None:
        self._plan = plan
        self._path = path
        self._tree = tree
        self._hints = hints
        self._infos: dict[str, TensorInfo] = {}
        self._outputs: dict[Place, Entry] = {}

    def run(self) -> Followed:
        raise NotImplementedError

    @property
    def _input(self) -> str:
        return f"(){joined(self._path)}"

    def _held(self, name: str, info: TensorInfo) -> TensorValue:
        self._infos[name] = info
        return source_value(self._plan.graph, SourceKey(self._input, 0, name), info)

    def _source(self, key: str) -> int:
        info = self._plan.header.entries[key]
        assert isinstance(info, TensorInfo)
        return source_value(self._plan.graph, SourceKey("", 0, key), info).id

    def _own(self, output: Entry) -> list[int]:
        """Return the tensors of the state whose data goes into an output."""
        graph = self._plan.graph
        if output.origin is not None:
            return [] if output.origin.input or output.opaque is not None else [self._source(output.origin.key)]
        return [id for id in graph.sources(output.value or 0) if _is_own(graph[id])]

    def _put(self, inner: KeyPath, key: str, output: Entry, averages: Substitution, wrapper: str = "") -> Place:
        """Note what stands in the place of an output; `wrapper` is what the names of these averages begin with."""
        graph, place = self._plan.graph, Place(self._path, inner)
        if output.origin is not None:
            info = self._plan.info(output.origin)
            assert isinstance(info, TensorInfo)
            id = source_value(graph, output.origin, info).id
        else:
            assert output.value is not None
            id = output.value
        try:
            value = averages.value(id)
        except NoMomentsError as error:
            raise CannotFollowError(
                codes.MOMENTS_UNKNOWN,
                f"the average of `{key}` cannot be made: {error.why}",
                step=output.step,
            ) from None
        node = graph[graph.inner(value.id)]
        origin = node.key if isinstance(node, InputTensor) else None
        made = None if origin is not None else graph.inner(value.id)
        self._outputs[place] = Entry(("followed", self._path, wrapper, output.tie), value.type, origin, made)
        return place

    def _followed(self, tree: Any, account: FollowAccount) -> Followed:
        return Followed(self._path, "averages", self._input, self._infos, self._outputs, tree, account)


def _is_own(node: Any) -> bool:
    return isinstance(node, InputTensor) and not node.key.input


class _State(_Average):
    """Averages under the names of the state, perhaps with a wrapper's name before all of them."""

    def run(self) -> Followed:
        names = [name for name, value in self._tree.items() if isinstance(value, TensorInfo)]
        if any(isinstance(value, Mapping) for value in self._tree.values()):
            raise CannotFollowError(codes.NOTHING_TO_FOLLOW, "its tensors stand in dicts of their own")
        wrappings = self._wrappings(names)
        known: dict[str, int] = {}
        keys: list[str] = []
        made: dict[str, Place] = {}
        for before, after in wrappings:
            own = {name: key for name, key in _keys(names, before, after).items() if self._fits(name, key)}
            known |= {name: self._source(key) for name, key in own.items()}
            keys += own.values()
            made |= self._of_one(own, before, after)
        others = {name: value for name, value in self._tree.items() if name not in known}
        first = next(iter(self._tree), None)
        tree = {**others, **made} if first in others else {**made, **others}
        reached = {id for output in self._plan.outputs.values() for id in self._own(output)}
        dropped = tuple(name for name, id in known.items() if id not in reached)
        account = FollowAccount((), len(made), dropped=dropped, known=tuple(keys))
        return self._followed(self._noted(tree, *wrappings[0]), account)

    def _of_one(self, known: Mapping[str, str], before: str, after: str) -> dict[str, Place]:
        """Return the averages of the result; `known` are the keys that those of the state are of, by their names."""
        held = {self._source(key): self._held(name, self._tree[name]) for name, key in known.items()}
        averages = Substitution(self._plan.graph, held)
        made = {}
        for key, output in self._averaged({*held}, whole=len(known) >= len(self._plan.header.entries)):
            name = f"{before}{key.removeprefix(after)}"
            made[name] = self._put((name,), key, output, averages, before)
        return made

    def _wrappings(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return the names of wrappers before the names here, and before the keys, with which most of them agree.

        There are several where the model and its average stand in one dict, each under a name of its own.
        """
        entries = self._plan.header.entries

        def agreeing(way: tuple[str, str]) -> int:
            return sum(key in entries for key in _keys(names, *way).values())

        dotted = [name for name in names if "." in name]
        shapes = dict.fromkeys(entries, ())
        ways = [("", ""), wrapping(dotted, shapes), (_first(dotted), ""), ("", _first([*shapes]))]
        one = max(ways, key=agreeing)
        apart = [(f"{first}.", "") for first in dict.fromkeys(name.partition(".")[0] for name in dotted)]
        several = [way for way in apart if 2 * agreeing(way) > len(entries)]
        return several if len(several) > 1 and sum(map(agreeing, several)) > agreeing(one) else [one]

    def _fits(self, name: str, key: str) -> bool:
        info = self._plan.header.entries.get(key)
        return isinstance(info, TensorInfo) and info.type.shape == self._tree[name].type.shape

    def _averaged(self, known: set[int], *, whole: bool) -> Iterator[tuple[str, Entry]]:
        """Yield the outputs that have averages: those made of tensors that have, and new parameters."""
        for key, output in self._plan.outputs.items():
            if output.type is None:
                continue
            own = {*self._own(output)}
            floating = output.type.dtype.is_floating_point or output.type.dtype.is_complex
            if own and own <= known:
                yield key, output
            elif own & known:
                raise CannotFollowError(
                    codes.MOMENTS_APART,
                    f"`{key}` is made of tensors that it has averages of, and of others",
                    step=output.step,
                )
            elif not own and (whole or (floating and not is_buffer_name(key))):
                yield key, output

    def _noted(self, tree: dict[str, Any], before: str, after: str) -> Any:
        """Return the new state with the `_metadata` of the modules that are in the result."""
        found = like(self._tree, tree)
        if getattr(found, "_metadata", None) is not None and self._plan.metadata is not None:
            noted = {
                f"{before}{path.removeprefix(after)}".rstrip("."): one for path, one in self._plan.metadata.items()
            }
            found._metadata = {"": self._plan.metadata.get("", {}), **noted} if before else noted
        return found


def _keys(names: Sequence[str], before: str, after: str) -> dict[str, str]:
    return {name: f"{after}{name.removeprefix(before)}" for name in names if name.startswith(before)}


def _first(names: Sequence[str]) -> str:
    firsts = {name.partition(".")[0] for name in names}
    return f"{firsts.pop()}." if len(firsts) == 1 else ""


class _List(_Average):
    """Averages in a list, in the order of the parameters."""

    def run(self) -> Followed:
        shadow = self._tree[SHADOW]
        if self._tree.get("collected_params"):
            raise CannotFollowError(codes.NOTHING_TO_FOLLOW, "it holds the parameters themselves for the time being")
        members = tuple(KnownParameter(place, None, 0, {"exp_avg": info}) for place, info in enumerate(shadow))
        optimizer = Optimizer(members, 1, False, ({},), note=read_note(self._tree))
        found = ResultParameters(self._plan, optimizer, self._hints)
        held = {id: self._held(f"{SHADOW}.{one.id}", shadow[int(one.id)]) for id, one in found.members.items()}
        averages = Substitution(self._plan.graph, held)
        result = found.by_group()
        places = [self._put((SHADOW, number), one.key, one.output, averages) for number, one in enumerate(result)]
        reached = {id for one in result for id in one.of}
        tree = {name: type(shadow)(places) if name == SHADOW else value for name, value in self._tree.items()}
        made = [self._outputs[place].type for place in places]
        new = [
            KnownParameter(place, None, 0, None if kind is None else {"exp_avg": TensorInfo(kind)})
            for place, kind in enumerate(made)
        ]
        note = found.note(result, new, ordered=self._hints.ordered)
        account = FollowAccount(
            (),
            sum(not one.is_new for one in result),
            new=tuple(one.key for one in result if one.is_new),
            dropped=tuple(key for key, id in zip(found.keys, found.members, strict=True) if id not in reached),
            order=found.order,
            known=tuple(found.keys),
            is_noted=note is not None,
        )
        tree = with_note(tree, optimizer.note, note)
        return self._followed(like(self._tree, tree), account)
