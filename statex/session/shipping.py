"""The outputs of a run between plan and disk: their content, their cost, and the order of writing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from statex.checkpoint import Format, Options, arrange, memory_there_is
from statex.checkpoint.blobs.contents import Made
from statex.checkpoint.blobs.write_plan import WritePlan
from statex.core import garbage
from statex.diagnostics import Diagnostic, StatexError, diagnostic, fail, pointing_at
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import files as codes
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.plan import Cost, Plan
from statex.session.carried import Carried, carried, carried_in, foreign_warnings, refuse_foreign
from statex.session.configs import Upkeep, kept_up
from statex.session.delivery import Delivery, OptimizerDelivery, of_state
from statex.session.following import named_to_follow, with_following
from statex.session.format_warnings import format_warnings
from statex.session.keeping import plans_of
from statex.session.placing import Placed
from statex.session.request import Policy, Request, TargetSpec
from statex.session.session import Session
from statex.session.sources import folder_of
from statex.session.stamps import with_stamps
from statex.session.targets import resolve

if TYPE_CHECKING:
    from statex.execute.verify.verification import Comparison


_FEW = 3
"""Links named in a command to paste."""


@dataclass(frozen=True)
class Shipment:
    """An output that is ready to be written: `layout` says which bytes will be where."""

    placed: Placed
    delivery: Delivery
    options: Options
    layout: WritePlan
    comparison: Comparison | None
    upkeep: Upkeep
    unfollowed: tuple[Diagnostic, ...] = ()

    @property
    def keys(self) -> int:
        """The number of its keys."""
        return len(self.delivery.plan.outputs) or len(self.delivery.plan.made)


def shipments(session: Session, outputs: Sequence[Placed], policy: Policy) -> list[Shipment]:
    """Return the outputs ready to be written; what several of them compute is computed for the first.

    Raises:
        StatexError: SX301 for a pattern of keys that matches none, SX632 for keys that no output holds, SX501 and SX504
            for targets, SX614 for what a format cannot hold.
    """
    whole = of_state(session.plan)
    states = [one for one in outputs if not one.spec.optimizer]
    kept = iter(plans_of(whole, [one.spec.keep for one in states], session.request.outside))
    plans = [session.plan if one.spec.optimizer else next(kept) for one in outputs]
    named = named_to_follow(session.resolved.parts)
    verified = session.whole.check_target()
    if session.target is not None and states:
        session.whole.load_into_target(states[0].format or session.inputs.main.format.successor)
    made: dict[int, Made] = {}
    found: dict[int, Shipment] = {}
    for place in _order([_format(session, one) for one in outputs]):
        one, plan = outputs[place], plans[place]
        own = one.spec.target
        with pointing_at(one.spec.span if len(outputs) > 1 else None):
            target = resolve(own, session.inputs.nested_at)
            unfollowed: list[Diagnostic] = []
            if one.spec.keep:
                plan, unfollowed = with_following(plan, session.inputs, named, target or session.target, session.names)
            name = one.spec.optimizer
            delivery = (
                OptimizerDelivery(plan, session.inputs, name, dict(made))
                if name
                else Delivery(plan, session.inputs, target, dict(made))
            )
            shipment = replace(_shipment(session, one, delivery, policy), unfollowed=tuple(unfollowed))
        if shipment.comparison is None and not one.spec.keep and not one.spec.optimizer and own is None:
            shipment = replace(shipment, comparison=verified)
        found[place] = shipment
        if not shipment.options.format.by_torch:
            made.update(delivery.stream(shipment.options.format).made)
    return [found[place] for place in range(len(outputs))]


def _format(session: Session, placed: Placed) -> Format:
    """Return the format of an output; where nothing says it, that of what it is made of."""
    opened = session.inputs.optimizers[placed.spec.optimizer] if placed.spec.optimizer else session.inputs.main
    return placed.format or opened.format.successor


def in_order(found: Sequence[Shipment]) -> list[Shipment]:
    """Return outputs in the order in which they are written: one may read what those before it hold."""
    return [found[place] for place in _order([one.options.format for one in found])]


def _order(formats: Sequence[Format]) -> list[int]:
    # torch does not say where it has put what, so that nothing can read from there.
    return sorted(range(len(formats)), key=lambda place: formats[place].by_torch)


def _shipment(session: Session, placed: Placed, delivery: Delivery, policy: Policy) -> Shipment:
    inputs, spec = session.inputs, placed.spec
    upkeep = kept_up(placed.copy, delivery.plan, spec.span) if spec.update_config else Upkeep(placed.copy)
    options = Options(
        format=_format(session, placed),
        name=placed.path.name,
        force=placed.force,
        folder=placed.folder,
        shard_size=placed.shard_size,
        names=placed.names(inputs.main.format),
        check=policy.check_input,
        keep_crc=policy.verify_written,
        metadata_texts=with_stamps(delivery.plan),
        index_metadata=inputs.index_metadata,
        copy=upkeep.copy,
        own=placed.own,
    )
    if options.format.holds_objects and not policy.keep_foreign:
        found = _carried(delivery)
        refuse_foreign(found, inputs.main.label, in_recipe=session.request.recipe is not None)
    comparison = delivery.check_target()
    delivery.load_into_target(options.format)
    with garbage.paused(), _explained(placed, options.format):
        layout = options.format.layout(arrange(delivery.contents(options.format), options), options)
    return Shipment(placed, delivery, options, layout, comparison, upkeep)


@contextmanager
def _explained(placed: Placed, format: Format) -> Iterator[None]:
    """Say of an optimizer that a format cannot hold where it can go: rules do not change what it is."""
    try:
        yield
    except StatexError as error:
        if not placed.spec.optimizer or format.is_folder or error.diagnostics[0].code is not codes.CANNOT_HOLD:
            raise
        what = "a folder of shards" if placed.folder else f"a {format.title} file"
        fail(
            codes.CANNOT_HOLD,
            f"{what} holds named tensors only, and not the optimizer for `{placed.path}`",
            placed.spec.span,
            help="write it to a file of torch: a name that ends in `.pt`",
        )


def priced(session: Session, found: Sequence[Shipment], policy: Policy) -> Plan:
    """Return the whole plan with what all outputs take together, and with what their formats have no place for.

    Raises:
        StatexError: SX616 if that is more memory than allowed.
    """
    has_model = session.target is not None and session.target.module is not None
    torch = has_model or any(one.delivery.needs_torch(one.options.format) for one in found)
    costs = [one.delivery.cost(one.layout, torch=torch) for one in found]
    written = sum(cost.written for cost in costs)
    cost = Cost(
        read=sum(cost.read for cost in costs) + _digested(session) + (written if policy.digests else 0),
        copied=sum(cost.copied for cost in costs),
        computed=sum(cost.computed for cost in costs),
        written=written,
        memory=max(cost.memory for cost in costs),
    )
    if policy.max_memory is not None and cost.memory > policy.max_memory:
        fail(
            codes.NO_MEMORY,
            f"this would take up to {show_bytes(cost.memory)} of memory, and {show_bytes(policy.max_memory)} "
            "is allowed",
        )
    return replace(session.plan, cost=cost, warnings=(*session.plan.warnings, *_losses(session, found)))


def check_memory(nbytes: int, policy: Policy) -> None:
    """Refuse work that takes more memory than the machine has, unless so much is allowed by name.

    Raises:
        StatexError: SX616.
    """
    there = memory_there_is()
    if policy.max_memory is None and there is not None and nbytes > there:
        fail(
            codes.NO_MEMORY,
            f"this would take up to {show_bytes(nbytes)} of memory, and the machine has {show_bytes(there)}",
            help="if it is to be tried nevertheless, allow as much with `--max-memory`",
        )


def _digested(session: Session) -> int:
    """Return the bytes of inputs that are read for their digests."""
    request = session.request
    inputs = zip(request.all_inputs, session.inputs.opened, strict=True)
    readers = [opened.reader for (_, _, given), opened in inputs if request.takes_digest(given)]
    return sum(file.size for reader in readers if reader is not None for file in reader.files)


def _losses(session: Session, found: Sequence[Shipment]) -> Iterator[Diagnostic]:
    """Yield what formats have no place for, once for all outputs of a format, and files that are not copied along."""
    for one in found:
        yield from one.upkeep.warnings
        if one.placed.spec.copy_files:
            yield from _links_left(session, one.placed)
    seen: set[object] = {(one.code.id, one.headline) for one in session.plan.warnings}
    for one in found:
        for warning in _of_output(session, one):
            if (warning.code.id, warning.headline) not in seen:
                seen.add((warning.code.id, warning.headline))
                yield warning


def _links_left(session: Session, placed: Placed) -> Iterator[Diagnostic]:
    """Yield warnings of links in the input's folder that are not followed: those out of it, and those to nothing."""
    source = session.request.state.path
    if source is None:
        return
    links = [folder_of(source) / name.removesuffix("@") for name in placed.left if name.endswith("@")]
    outside, broken = [one for one in links if one.exists()], [one for one in links if not one.exists()]
    for found, one, several in (
        (outside, "is a link out of the input's folder", "are links out of the input's folder"),
        (broken, "is a broken link", "are broken links"),
    ):
        if found:
            names = [os.fspath(path) for path in found]
            copy = f"cp -rL {' '.join(quote(name) for name in names[:_FEW])} {quote(os.fspath(placed.path))}/"
            more = "" if len(names) <= _FEW else "   and so on"
            yield diagnostic(
                lints.NOT_COPIED,
                f"{join_words([f'`{path.name}`' for path in found], limit=3)} {one if len(found) == 1 else several}, "
                f"and {'is' if len(found) == 1 else 'are'} not copied",
                placed.spec.span,
                help=() if found is broken else f"if you trust them, copy them afterwards: {copy}{more}",
            )


def _carried(delivery: Delivery) -> list[Carried]:
    if isinstance(delivery, OptimizerDelivery):
        return carried_in(delivery.opened.tree)
    return carried(delivery.plan, delivery.inputs)


def _of_output(session: Session, one: Shipment) -> Iterator[Diagnostic]:
    plan = one.delivery.plan
    yield from format_warnings(plan, one.options.format)
    if one.options.format.holds_objects:
        yield from foreign_warnings(_carried(one.delivery), kept=True)
    if one.placed.spec.keep:
        yield from one.unfollowed


def check_held_back(request: Request) -> None:
    """Refuse targets that are code which may not be imported.

    Raises:
        StatexError: SX507 with every such target.
    """
    held = [one for one in request.named_targets if one.held_back]
    if held:
        raise StatexError([_not_allowed(one) for one in held])


def _not_allowed(target: TargetSpec) -> Diagnostic:
    from statex.diagnostics.codes import target as target_codes

    return diagnostic(
        target_codes.NOT_ALLOWED,
        f"the target `{target.model}` is code, and recipes may not run any unless you say so",
        target.span,
        help="--allow-import   or compare with a checkpoint: `target: {like: FILE}`",
    )
