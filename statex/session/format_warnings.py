"""Content that the format of an output has no place for: reported in the plan, because the result would not show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from statex.checkpoint import Format
from statex.checkpoint.formats.stamps import as_text, left_out
from statex.core.header import STAMP, TensorInfo
from statex.core.quoting import show_label
from statex.diagnostics import diagnostic
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import lints
from statex.diagnostics.model import Diagnostic
from statex.diagnostics.suggest import join_words
from statex.dsl.keys.quoting import show_rules
from statex.dsl.plan.around import net
from statex.dsl.plan.entry import Entry
from statex.dsl.plan.plan import Plan
from statex.grammar import factory as make
from statex.session.overlaps import Named, overlapping


def format_warnings(plan: Plan, format: Format) -> Iterator[Diagnostic]:
    """Yield warnings: of tensors that share memory, and of the texts that a safetensors file keeps beside tensors."""
    if not format.shares:
        yield from _untied(plan, format)
        yield from _parted(plan, format)
    if not format.keeps_metadata:
        yield from _lost_stamps(plan, format)
    lost = sorted(set(plan.metadata_texts) - {"format"})
    if lost and not format.keeps_notes:
        yield _lost(plan, lost, "this format")
    elif STAMP in plan.metadata_texts and as_text(plan.metadata):
        yield diagnostic(
            lints.NOTES_LOST,
            f"the text `{STAMP}` in the `__metadata__` of {show_label(plan.header.label)} "
            "gives way to the version of the layout",
        )


def notes_left(names: Sequence[str], label: str) -> Iterator[Diagnostic]:
    """Yield a warning of what stands beside the tensors and is too long to be kept."""
    if names:
        which = join_words([f"`{name}`" for name in names], limit=3)
        whose = f"the metadata of {show_label(label)}"
        yield diagnostic(lints.NOTES_LOST, f"{whose} is kept without its long arrays: {which}")


def texts_in_memory(plan: Plan) -> Iterator[Diagnostic]:
    """Yield a warning of texts that rules write into the metadata, where the result is a state in memory."""
    lost = sorted({one.address for one in net(plan.edits) if one.of == "metadata" and one.kind != "left out"})
    if lost:
        yield _lost(plan, lost, "a state in memory")


def _lost(plan: Plan, names: Sequence[str], where: str) -> Diagnostic:
    known = plan.header.surroundings.metadata_texts if plan.header.surroundings is not None else {}
    what = f"the metadata of {show_label(plan.header.label)}" if any(name in known for name in names) else "metadata"
    listed = join_words([f"`{name}`" for name in names], limit=3)
    return diagnostic(lints.NOTES_LOST, f"{what} has no place in {where}: {listed}")


def _lost_stamps(plan: Plan, format: Format) -> Iterator[Diagnostic]:
    paths = left_out(plan.metadata)
    if paths:
        where = join_words([f"`{path}`" if path else "the whole state" for path in paths])
        yield diagnostic(lints.STAMP_LOST, f"what is noted as the version of {where} has no place in {format.title}")


def _untied(plan: Plan, format: Format) -> Iterator[Diagnostic]:
    """Say which keys are one tensor, and will be several."""
    counts = Counter([output.tie for output in plan.outputs.values()])
    ties: dict[object, list[str]] = {tie: [] for tie, count in counts.items() if count > 1}
    for key, output in plan.outputs.items() if ties else ():
        if output.tie in ties and output.type is not None and output.type.numel:
            ties[output.tie].append(key)
    shared = [keys for keys in ties.values() if len(keys) > 1]
    if not shared:
        return
    more = sum(_nbytes(plan.outputs[key]) for keys in shared for key in keys[1:])
    copy = make.key(shared[0][-1])
    yield diagnostic(
        lints.SHARED_IN_FULL,
        f"{_listed(shared[0])} are one tensor, and {format.title} holds each in full",
        values=[f"{len(shared) - 1} more such groups of tensors"] if len(shared) > 1 else (),
        notes=[f"{show_bytes(more)} are written again"] if more else (),
        help=f"if the model ties them itself: {show_rules(make.drop(copy), make.allow_missing(copy))}",
    )


def _parted(plan: Plan, format: Format) -> Iterator[Diagnostic]:
    """Say which tensors overlap without being one, and will have nothing in common."""
    over: dict[object, dict[object, Named]] = {}
    for key, output in plan.outputs.items():
        info = plan.info(output.origin) if output.origin is not None else None
        if output.origin is not None and isinstance(info, TensorInfo) and info.storage is not None:
            storage = (output.origin.input, output.origin.member, info.storage)
            over.setdefault(storage, {}).setdefault(output.tie, (key, info))
    found = [keys for one in over.values() if len(one) > 1 for keys in overlapping(one.values())]
    if not found:
        return
    yield diagnostic(
        lints.SHARED_IN_FULL,
        f"{_listed(found[0])} overlap in memory, and {format.title} holds each in full: they become separate copies",
        values=[f"{len(found) - 1} more such groups of tensors"] if len(found) > 1 else (),
    )


def _listed(keys: Sequence[str]) -> str:
    return join_words([f"`{key}`" for key in keys], limit=3)


def _nbytes(output: Entry) -> int:
    return output.type.nbytes if output.type is not None else 0
