"""One output of a run: its keys, whether they fit its target, and the content of its file."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from statex.checkpoint import Format
from statex.checkpoint.blobs import layout
from statex.checkpoint.blobs.contents import Made
from statex.checkpoint.blobs.walks import leaves
from statex.checkpoint.blobs.write_plan import WritePlan
from statex.checkpoint.formats.packed import torch_type
from statex.checkpoint.formats.torch.format import TORCH
from statex.core.dtypes import BY_NAME
from statex.core.foreign import Foreign
from statex.core.header import KeyPath, OpaqueInfo, TensorInfo, TensorType
from statex.core.paths import at, written
from statex.core.quoting import IN_MEMORY, show_label
from statex.core.surroundings import Edit
from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes
from statex.diagnostics.torch_dtypes import torch_dtype
from statex.dsl.compile.nested_result import nested_metadata
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.followed import Place
from statex.dsl.plan.graph import SourceKey
from statex.dsl.plan.metadata import Metadata, copied
from statex.dsl.plan.plan import Cost, Plan
from statex.grammar import factory as make
from statex.session.followed import followed_in
from statex.session.opened import Inputs, Opened
from statex.trees.pickled_modules import is_module
from statex.trees.rebuilding import edited, rebuild, with_data

if TYPE_CHECKING:
    from statex.execute.stream import Stream
    from statex.execute.verify.target import Target
    from statex.execute.verify.verification import Comparison


class Delivery:
    """A plan (of some of the keys of the whole one) on its way to a file, or to the caller.

    `earlier` are computed values, by their ids, that outputs before this one hold.
    """

    def __init__(
        self, plan: Plan, inputs: Inputs, target: Target | None, earlier: Mapping[int, Made] | None = None
    ) -> None:
        self.plan = plan
        self.inputs = inputs
        self.target = target
        self._comparison: Comparison | None = None
        self._earlier = earlier
        self._streams: dict[Format, Stream] = {}

    def check_target(self) -> Comparison | None:
        """Compare the plan with the target, if there is one.

        Raises:
            StatexError: SX501.
        """
        if self.target is None:
            return None
        if self._comparison is None:
            from statex.execute.verify.verification import verify_types

            types = {key: output.type for key, output in self.plan.outputs.items()}
            self._comparison = verify_types(
                types,
                self.target,
                self.plan.is_allowed,
                self._origin,
                paths=self.plan.nested.paths,
                flat=self.inputs.written_flat,
            )
        return self._comparison

    def verify(self) -> Comparison:
        """Compare with the target, which has to be there, and let its model load the tensors.

        Raises:
            StatexError: SX501, SX504.
        """
        from statex.execute.verify.verification import types_of, verify_types

        assert self.target is not None
        label = self.inputs.main.label
        subject = "the state" if label in ("", IN_MEMORY) else f"`{label}`"
        header = self.inputs.header
        found = self._comparison = verify_types(
            types_of(header.entries),
            self.target,
            subject=subject,
            paths=header.paths,
            flat=lambda: f"rules that write it flat: {self.inputs.written_flat()}",
        )
        if self.target.module is not None:
            self._load_for_real(self.state())
        return found

    def _origin(self, key: str) -> str:
        """Say where a key of the result comes from; of a key that is missing, what took the tensor of that name."""
        output = self.plan.outputs.get(key)
        if output is not None:
            return f"from {self._place(output.step)}" if output.step >= 0 else "untouched since the input"
        if key not in self.plan.header.entries:
            return ""
        fate = self.plan.fates[SourceKey("", 0, key)]
        taken = fate.kind in ("dropped", "used") and fate.step >= 0
        return f"{fate.kind} by {self._place(fate.step)}" if taken else ""

    def _place(self, step: int) -> str:
        span = self.plan.steps[step].span
        return f"{span.source.name}:{span.line}"

    def state(self) -> OrderedDict[str, Any]:
        """Return the result as a flat state_dict."""
        return self._executed()[0]

    def _executed(self) -> tuple[OrderedDict[str, Any], Mapping[Place, Any]]:
        from statex.execute.in_memory import execute

        return execute(self.plan, lambda key: self.inputs.load(key, self.plan.info(key)))

    def execute(self) -> Any:
        """Return the result with what is around the state, after the target has loaded it.

        Raises:
            StatexError: SX504, SX642.
        """
        from statex.core.progress import Phases
        from statex.session.sameness import check_same

        check_same(self.plan, self.inputs, Phases(None))
        self._check_root()
        self._check_stretched(TORCH)
        state, beside = self._executed()
        self._load_for_real(state)
        metadata = {path: copied(noted) for path, noted in self._metadata().items()}
        return self._around(state, metadata, beside, self.inputs.main.load)

    def _metadata(self) -> dict[KeyPath, Metadata]:
        """Return the `_metadata` of the result and of dicts in it, by their places."""
        return nested_metadata(self.plan, at(self.inputs.main.tree, self.inputs.root))

    def _around(
        self,
        state: Mapping[str, Any],
        metadata: Mapping[KeyPath, Metadata],
        beside: Mapping[Place, Any],
        load: Callable[[Any], Any],
    ) -> Any:
        inputs, plan = self.inputs, self.plan
        self._check_root()
        around = followed_in(plan, inputs.main.tree, beside, load)
        return rebuild(
            around.tree, inputs.root, inputs.root_target, state, metadata, plan.nested, around.load, around.edits
        )

    def _check_root(self) -> None:
        """Refuse to put a state back into a whole module.

        Raises:
            StatexError: SX641.
        """
        inputs = self.inputs
        if inputs.root_target != () and is_module(at(inputs.main.tree, inputs.root)):
            root = written(inputs.main.tree, inputs.root)
            where = f" at `{root}`" if root else ""
            fail(
                codes.MODULE_STAYS,
                f"{show_label(inputs.main.label)} holds a whole module{where}: its state can be read, "
                "but not be put back",
                help=f"take the bare state: {show_rules(make.root(root, ''))}",
            )

    def _load_for_real(self, state: Mapping[str, Any]) -> None:
        comparison = self.check_target()
        if self.target is None or comparison is None:
            return
        from statex.execute.verify.verification import load_for_real

        # What is foreign is nobody's to load: the module's own code would get it.
        foreign = {key: None for key, value in state.items() if isinstance(value, Foreign)}
        given = OrderedDict((key, value) for key, value in state.items() if key not in foreign)
        if foreign:
            comparison = replace(comparison, allowed=(*comparison.allowed, *foreign))
        given._metadata = self.plan.metadata  # type: ignore[attr-defined]
        load_for_real(self.target, given, comparison)

    def load_into_target(self, format: Format) -> None:
        """Let the target, if it is a model, load the result as an output of a format has it, its tensors without data.

        Raises:
            StatexError: SX504.
        """
        if self.target is not None and self.target.module is not None:
            state = self.stream(format).state()
            self._load_for_real({key: self._without_data(leaf) for key, leaf in state.items()})

    def contents(self, format: Format) -> Any:
        """Return what an output of a format shall hold, for `arrange`; nothing is computed yet.

        Raises:
            StatexError: SX642 for views that would be written out in full, and take far more bytes than the inputs.
        """
        stream, main = self.stream(format), self.inputs.main

        def around(leaf: Any) -> Any:
            return stream.readable(leaf, lambda: main.load(leaf)) if isinstance(leaf, TensorInfo) else leaf

        tree = self._around(stream.state(), self._metadata(), stream.followed(), around)
        self._check_stretched(format, None if format.shares else tree)
        return tree

    def _check_stretched(self, format: Format, written_out: Any = None) -> None:
        from statex.session.stretching import refuse_stretched

        computed = self.stream(format).of_stretched
        refuse_stretched(self.inputs, {str(key): nbytes for key, nbytes in computed.items()}, written_out)

    def stream(self, format: Format) -> Stream:
        """Return what carries the plan out for an output of a format."""
        from statex.execute.stream import Stream

        if format not in self._streams:
            self._streams[format] = Stream(
                self.plan,
                self.plan.info,
                lambda key: self.inputs.load_alone(key, self.plan.info(key)),
                shares=format.shares,
                earlier=self._earlier,
            )
        return self._streams[format]

    def needs_torch(self, format: Format) -> bool:
        """Say whether torch computes for an output of a format, or builds its target."""
        return (self.target is not None and self.target.module is not None) or self.stream(format).needs_torch

    def cost(self, output: WritePlan, *, torch: bool = False) -> Cost:
        """Return what it takes to write an output; `torch` says that it is imported for something else."""
        return self.stream(output.format).cost(
            output,
            torch=torch or self.needs_torch(output.format),
            distributed=output.format.by_torch or any(reader.format.by_torch for reader in self.inputs.readers),
            further_keys=self.inputs.further_keys,
            pickled=sum(reader.pickled for reader in self.inputs.readers),
        )

    def _without_data(self, leaf: Any) -> Any:
        if isinstance(leaf, OpaqueInfo):
            return self.inputs.main.load(leaf)
        import torch

        kind = torch_type(leaf.type) or TensorType(BY_NAME["uint8"], (leaf.type.nbytes,))
        tensor = torch.empty(kind.shape, dtype=torch_dtype(torch, kind.dtype.name), device="meta")
        return torch.nn.Parameter(tensor, requires_grad=leaf.requires_grad) if leaf.is_parameter else tensor


class OptimizerDelivery(Delivery):
    """An optimizer of a file of its own on its way to an output; `name` is that of the input."""

    def __init__(self, plan: Plan, inputs: Inputs, name: str, earlier: Mapping[int, Made] | None = None) -> None:
        own = tuple(one for one in plan.followed if one.file == name)
        super().__init__(replace(plan, outputs={}, followed=own, metadata=None), inputs, None, earlier)
        self.opened = inputs.optimizers[name]

    def contents(self, format: Format) -> Any:
        """Return what the output shall hold, for `arrange`; nothing is computed yet."""
        stream = self.stream(format)

        def load(leaf: Any) -> Any:
            known = isinstance(leaf, TensorInfo)
            return stream.readable(leaf, lambda: self.opened.load(leaf)) if known else leaf

        tree, main = self.opened.tree, self.inputs.main
        around = followed_in(replace(self.plan, edits=()), tree, stream.followed(), load)
        root = self.inputs.root
        if root and _files_of(self.opened) == _files_of(main):
            # Where the checkpoint itself is given once more, its state is in the output that is made of it.
            return with_data(
                edited(around.tree, [Edit("value", "left out", root, written(tree, root), -1)]), around.load
            )
        return with_data(around.tree, around.load)


def _files_of(opened: Opened) -> set[str] | None:
    return {os.path.realpath(file.path) for file in opened.reader.files} if opened.reader is not None else None


def of_state(plan: Plan) -> Plan:
    """Return a plan without what follows in files of its own."""
    return replace(plan, followed=tuple(one for one in plan.followed if not one.file))


def alone(tree: Any) -> list[Any]:
    """Return the leaves of a tree, each tensor laid out by itself."""
    return [layout.alone(leaf) if isinstance(leaf, TensorInfo) else leaf for leaf in leaves(tree)]
