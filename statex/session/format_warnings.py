"""What the format of an output has no place for: said in the plan, as nobody would see it in the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from statex.checkpoint.stamps import as_text, left_out
from statex.diagnostics import diagnostic
from statex.diagnostics.amounts import show_bytes
from statex.diagnostics.codes import lints
from statex.diagnostics.model import Diagnostic
from statex.diagnostics.suggest import join_words
from statex.dsl.plan import Output, Plan
from statex.dsl.written import show_key
from statex.header import STAMP, TensorInfo


def format_warnings(plan: Plan, format: str, notes: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Yield warnings: of tensors that share storage, and of the texts that a safetensors file keeps beside tensors."""
    if format != "torch":
        yield from _untied(plan, format)
        yield from _lost_stamps(plan, format)
    lost = sorted(set(notes) - {"format"})
    if lost and format != "safetensors":
        yield diagnostic(
            lints.NOTES_LOST,
            f"the `__metadata__` of `{plan.header.label}` has no place in this format: "
            f"{join_words([f'`{name}`' for name in lost], limit=3)}",
        )
    elif STAMP in notes and as_text(plan.metadata):
        yield diagnostic(
            lints.NOTES_LOST,
            f"the text `{STAMP}` in the `__metadata__` of `{plan.header.label}` gives way to the version of the layout",
        )


def _lost_stamps(plan: Plan, format: str) -> Iterator[Diagnostic]:
    paths = left_out(plan.metadata)
    if paths:
        where = join_words([f"`{path}`" if path else "the whole state" for path in paths])
        yield diagnostic(lints.STAMP_LOST, f"what is noted as the version of {where} has no place in {_NAMES[format]}")


def _untied(plan: Plan, format: str) -> Iterator[Diagnostic]:
    counts = Counter([output.tie for output in plan.outputs.values()])
    groups: dict[object, list[tuple[str, Output]]] = {tie: [] for tie, count in counts.items() if count > 1}
    for key, output in plan.outputs.items() if groups else ():
        if output.tie in groups and output.type is not None and output.type.numel:
            groups[output.tie].append((key, output))
    shared = [group for group in groups.values() if len(group) > 1]
    if not shared:
        return
    once = {_identity(plan, output): output for group in shared for _, output in group}
    more = sum(_nbytes(output) for group in shared for _, output in group) - sum(map(_nbytes, once.values()))
    keys = [[f"`{key}`" for key, _ in group] for group in shared]
    copy = show_key(shared[0][-1][0])
    yield diagnostic(
        lints.SHARED_IN_FULL,
        f"{join_words(keys[0], limit=3)} share their storage, and {_NAMES[format]} holds each in full",
        values=[f"{len(shared) - 1} more such groups of tensors"] if len(shared) > 1 else (),
        notes=[f"{show_bytes(more)} are written again"] if more else (),
        help=f"where the model ties them itself: drop {copy}; allow missing {copy}",
    )


def _identity(plan: Plan, output: Output) -> object:
    """Return what outputs have in common that are the very same tensor, and no others."""
    info = plan.info(output.origin) if output.origin is not None else None
    return (output.tie, info.identity) if isinstance(info, TensorInfo) else output.value


_NAMES = {"safetensors": "safetensors", "dcp": "torch.distributed.checkpoint"}


def _nbytes(output: Output) -> int:
    return output.type.nbytes if output.type is not None else 0
