"""A run: its checkpoints opened, its program planned, and the plan on its way to one or several outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from statex.checkpoint import Format, Options, arrange
from statex.checkpoint.blobs.contents import OutTensor
from statex.checkpoint.blobs.layout import dense
from statex.checkpoint.blobs.write_plan import WritePlan, unplaced
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.core import garbage
from statex.core.header import TensorType
from statex.core.paths import at, written
from statex.diagnostics import Diagnostic, StatexError
from statex.diagnostics.codes import lints
from statex.dsl.plan.around import left_out
from statex.dsl.plan.plan import Plan
from statex.dsl.planner import compile_plan
from statex.dsl.resolve import Resolved
from statex.dsl.resolve import resolve as resolve_rules
from statex.session.carried import carried, foreign_warnings, module_warnings
from statex.session.delivery import Delivery, alone, of_state
from statex.session.following import followed_files, named_to_follow, with_following
from statex.session.format_warnings import format_warnings, notes_left
from statex.session.opened import Inputs, Opened
from statex.session.paramnames import GivenNames
from statex.session.request import Request
from statex.session.settling import Telling, settle, telling
from statex.session.stamps import kept_stamps, stamped, unread_stamps, with_stamps, without_stamp
from statex.session.targets import resolve
from statex.trees.roots import dropped_by


def check(request: Request) -> Resolved:
    """Return what can be said of a program without its checkpoints: its names, and warnings of those nothing uses.

    Raises:
        StatexError: every such error at once.
    """
    found = resolve_rules(request.parts, request.load, request.outside)
    if found.diagnostics:
        raise StatexError(found.diagnostics)
    return found


def settled(request: Request) -> tuple[Diagnostic, ...]:
    """Finish or undo interrupted runs that had to do with what a request reads and writes; return what to say of it.

    Raises:
        StatexError: SX622 and SX623 for runs that can be neither finished nor undone.
    """
    paths = [one.path for _, _, one in request.all_inputs if one.path is not None]
    paths += [Path(one.path) for one in request.outputs]
    paths += [request.report] if request.report is not None else []
    paths += [one.like_path for one in request.named_targets if one.like_path is not None]
    return settle(paths)


class Session(Telling):
    """A request at work; a context manager that closes the files.

    `before` is what is to be said of interrupted runs that were settled for it already. A state that is `held` open
    by another is read there, and stays open.

    Raises:
        StatexError: every error of the program on these checkpoints, 6xx for files, SX502 and SX503 for a target.
    """

    def __init__(self, request: Request, before: Sequence[Diagnostic] = (), held: Opened | None = None) -> None:
        self.request = request
        self._held = held
        self.before = (*before, *settled(request))
        with telling(self.before):
            self._open()

    def _open(self) -> None:
        request = self.request
        self.resolved = check(request)
        self.names = GivenNames(request.param_names)
        with garbage.paused():
            self.inputs = Inputs(request, self.resolved, self._held)
        try:
            self.target = resolve(request.target, self.inputs.nested_at)
            with garbage.paused():
                self.plan = self._plan()
        except BaseException:
            self.close()
            raise
        self.whole = Delivery(of_state(self.plan), self.inputs, self.target)

    def _plan(self) -> Plan:
        request, inputs = self.request, self.inputs
        plan = compile_plan(
            self.resolved,
            # A new version takes the place of the old one, wherever what is noted of its module goes.
            inputs.header if request.stamp is None else without_stamp(inputs.header, request.at),
            inputs=inputs.headers,
            target=self.target.header if self.target is not None else None,
            outside=request.outside,
            root=None if inputs.flat else written(inputs.main.tree, inputs.root),
            at=request.at,
            put_at=inputs.root_target,
        )
        left = (*dropped_by(inputs.main.tree, inputs.root, inputs.root_target), *left_out(plan))
        plan = replace(plan, left_around=tuple(dict.fromkeys(left)), linked=inputs.linked)
        headers = [inputs.header, *(header for members in inputs.headers.values() for header in members)]
        plan, beside = with_following(plan, inputs, named_to_follow(self.resolved.parts), self.target, self.names)
        files = followed_files(plan, inputs, self.target, self.names)
        plan = replace(plan, followed=(*plan.followed, *files))
        label = inputs.main.label
        notes = (*notes_left(inputs.main.left_texts, label), *unread_stamps(plan.metadata_texts, label))
        found = (*self._unused(plan), *plan.warnings, *beside, *module_warnings(headers), *notes)
        state = at(inputs.main.tree, inputs.root)
        if request.stamp is not None:
            warnings = (*found, *kept_stamps(replace(plan, metadata=None), state))
            return replace(plan, metadata=stamped(plan.metadata, request.at, request.stamp), warnings=warnings)
        return replace(plan, warnings=(*found, *kept_stamps(plan, state)))

    def _unused(self, plan: Plan) -> Iterator[Diagnostic]:
        """Yield the lints of the program; of an input that nothing reads, the plan says which tensors these are."""
        said = {one.span for one in plan.warnings if one.code is lints.INPUT_UNREAD}
        declared = {one.name.span for one in self.resolved.inputs if one.name.span in said}
        yield from (one for one in self.resolved.warnings if one.span not in declared)

    def layout(self, format: Format | None = None) -> WritePlan:
        """Return what a file of a format will be, named after the input; the format is by default that of the input.

        Raises:
            StatexError: SX614 for what the format cannot hold.
        """
        format = format or self.inputs.main.format.successor
        options = Options(format, self._name_in(format), metadata_texts=with_stamps(self.plan))
        with garbage.paused():
            return format.layout(arrange(self.whole.contents(format), options), options)

    def _name_in(self, format: Format) -> str:
        """Return what the input would be called in a format: with an ending of that, if its own says another one."""
        name = self.inputs.main.label
        stem, ending = os.path.splitext(name)
        if not ending or not format.suffixes or ending in format.suffixes or format.is_folder:
            return name
        return f"{stem}{format.suffixes[0]}"

    def priced(self, format: Format | None = None) -> Plan:
        """Return the plan with what it takes to write a format, and with warnings of what that has no place for.

        `format` is by default that of the input.

        Raises:
            StatexError: SX614 if it is asked for, and cannot hold the result with what stays around it.
        """
        if self.inputs.main.reader is None:
            return self.plan
        output = self._priced_layout(format)
        format = output.format
        foreign = carried(self.plan, self.inputs) if format.holds_objects else []
        warnings = (
            *self.before,
            *self.plan.warnings,
            *format_warnings(self.plan, format),
            *foreign_warnings(foreign, kept=False),
        )
        return replace(self.plan, cost=self.whole.cost(output), warnings=warnings)

    def _priced_layout(self, asked: Format | None) -> WritePlan:
        try:
            return self.layout(asked)
        except StatexError:
            if asked is not None:
                raise
            # What a format cannot hold is not an error yet if nobody asked for it.
            format = self.inputs.main.format.successor
            tree = alone(self.whole.contents(format))
            return WritePlan(format, tree, (unplaced("", tree),))

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The warnings of the plan."""
        return self.plan.warnings

    @property
    def label(self) -> str:
        """The name of the checkpoint."""
        return self.inputs.main.label

    @property
    def types(self) -> Mapping[str, TensorType | None]:
        """The types of the result by key; `None` for what is not a dense tensor."""
        return {key: output.type for key, output in self.plan.outputs.items()}

    def tensors(self) -> Mapping[str, OutTensor]:
        """Return the tensors of the result, each with bytes of its own that can be read in their order."""
        return dense(self.whole.stream(SAFETENSORS).state())

    def close(self) -> None:
        """Close the files that were opened."""
        self.inputs.close()
