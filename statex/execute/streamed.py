"""Runs a plan over tensors that arrive one by one: each result is given as soon as all its sources have come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from statex.core.header import TensorInfo
from statex.diagnostics import StatexError, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.graph import InputTensor, SourceKey
from statex.dsl.plan.plan import Plan
from statex.execute.in_memory import InMemoryRun
from statex.execute.live import tensor_info

Item = tuple[str, Any]


def stream(plan: Plan, items: Iterable[Item], load: Callable[[SourceKey], Any]) -> Iterator[Item]:
    """Yield the keys and tensors of a result, each as soon as its sources have come.

    `items` are the keys and tensors of the state, in any order, each once; `load` gives those of further inputs. A
    tensor is let go when nothing more is made of it.

    Raises:
        StatexError: SX324 for a key that the header does not have, that comes twice, or that does not come, and for a
            tensor of another type than the header says.
    """
    work = _Stream(plan, load)
    yield from work.ready()
    for key, tensor in items:
        work.take(key, tensor)
        yield from work.ready()
    work.check_complete()


class _Stream:
    def __init__(self, plan: Plan, load: Callable[[SourceKey], Any]) -> None:
        self._plan = plan
        self._load = load
        self._arrived: dict[str, Any] = {}
        self._devices: dict[str, Any] = {}
        self._seen: set[str] = set()
        self._run = InMemoryRun(plan, self._tensor, self._device)
        self._waits: dict[str, int] = {}
        """How many sources each result still waits for."""
        self._wanted: dict[str, list[str]] = {}
        """The results that are made of each source."""
        self._ready: list[str] = []
        for key, output in plan.outputs.items():
            sources = set(self._sources(output))
            self._waits[key] = len(sources)
            for source in sources:
                self._wanted.setdefault(source, []).append(key)
            if not sources:
                self._ready.append(key)
        self._uses = Counter({source: len(keys) for source, keys in self._wanted.items()})

    def _sources(self, output: Entry) -> Iterator[str]:
        if output.origin is not None:
            if not output.origin.input:
                yield output.origin.key
            return
        assert output.value is not None
        for id in self._plan.graph.sources(output.value):
            node = self._plan.graph[id]
            assert isinstance(node, InputTensor)
            if not node.key.input:
                yield node.key.key

    def take(self, key: str, tensor: Any) -> None:
        """Take a tensor that has come."""
        known = self._plan.header.entries.get(key)
        if known is None or key in self._seen:
            near = did_you_mean(key, list(self._plan.header.entries)[:20_000]) if known is None else []
            what = f"`{key}` came twice" if known is not None else f"`{key}` came, and the header has no such key"
            fail(codes.STREAM, what, help=f"did you mean `{near[0]}`?" if near else ())
        info = tensor_info(tensor) if hasattr(tensor, "untyped_storage") else None
        if isinstance(known, TensorInfo) and (not isinstance(info, TensorInfo) or info.type != known.type):
            came = str(info.type) if isinstance(info, TensorInfo) else type(tensor).__name__
            fail(codes.STREAM, f"`{key}` came as {came}, and the header says {known.type}")
        self._seen.add(key)
        self._devices[key] = getattr(tensor, "device", None)
        if key not in self._wanted:
            return
        self._arrived[key] = tensor
        for result in self._wanted[key]:
            self._waits[result] -= 1
            if not self._waits[result]:
                self._ready.append(result)

    def ready(self) -> Iterator[Item]:
        """Yield the results whose sources have all come, and let go of what is not needed any more."""
        while self._ready:
            key = self._ready.pop(0)
            output = self._plan.outputs[key]
            yield key, self._run.output(output)
            for source in set(self._sources(output)):
                self._uses[source] -= 1
                if not self._uses[source]:
                    self._arrived.pop(source, None)

    def _tensor(self, key: SourceKey) -> Any:
        return self._load(key) if key.input else self._arrived[key.key]

    def _device(self, key: SourceKey) -> Any:
        return self._load(key).device if key.input else self._devices.get(key.key)

    def check_complete(self) -> None:
        """Refuse to end where results wait for tensors that have not come."""
        missing = [key for key in self._wanted if key not in self._seen]
        if missing:
            named = join_words([f"`{key}`" for key in missing], limit=3)
            raise StatexError([diagnostic(codes.STREAM, f"the stream ended, and {named} did not come")])
