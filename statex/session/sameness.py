"""Checks `expect same`: tensors are read side by side before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from statex.checkpoint.blobs.layout import dense
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.core.progress import READING, Phases
from statex.diagnostics import Collector, diagnostic, fail
from statex.diagnostics.codes import keys as codes
from statex.dsl.plan.plan import Plan, Same
from statex.execute.differences import Difference, compare_values
from statex.session.delivery import Delivery
from statex.session.opened import Inputs

_THREADS = 2


def check_same(plan: Plan, inputs: Inputs, phases: Phases) -> None:
    """Compare the tensors that a plan expects to be the same; of files a piece at a time, in memory as they are.

    Raises:
        StatexError: SX317 with the tensors that differ.
    """
    if not plan.same:
        return
    found = Collector()
    in_files = all(opened.reader is not None for opened in inputs.opened)
    for same, difference in _streamed(plan, inputs, phases) if in_files else _in_memory(plan, inputs):
        if not difference.is_equal:
            found.add(
                diagnostic(
                    codes.EXPECTATION,
                    "these are not the same",
                    same.span,
                    values=[f"{same.key} and {same.other_key}: {difference}"],
                    cases=[same.key],
                )
            )
    found.raise_errors()


def refuse_same(plan: Plan) -> None:
    """Refuse to compare tensors that are not all there at once.

    Raises:
        StatexError: SX324.
    """
    if plan.same:
        fail(
            codes.STREAM,
            "`expect same` compares tensors before the first result is given, and those of a stream come one by one",
            plan.same[0].span,
        )


def _sides(plan: Plan) -> tuple[Plan, Plan]:
    """Return a plan of the first tensors and one of those they are compared with, by number."""
    ones = {str(number): same.one for number, same in enumerate(plan.same)}
    others = {str(number): same.other for number, same in enumerate(plan.same)}
    return replace(plan, outputs=ones, metadata=None), replace(plan, outputs=others, metadata=None)


def _streamed(plan: Plan, inputs: Inputs, phases: Phases) -> Iterator[tuple[Same, Difference]]:
    left, right = (dense(Delivery(side, inputs, None).stream(SAFETENSORS).state()) for side in _sides(plan))
    pairs = [(left[str(number)], right[str(number)]) for number in range(len(plan.same))]
    added = phases.begin(READING, sum(2 * one.type.nbytes for one, _ in pairs))
    found: dict[int, Difference] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        for number, part in compare_values(pairs, pool):
            found[number] = found[number].joined(part) if number in found else part
            added(2 * part.numel * pairs[number][0].type.dtype.itemsize)
    yield from zip(plan.same, (found[number] for number in range(len(pairs))), strict=True)


def _in_memory(plan: Plan, inputs: Inputs) -> Iterator[tuple[Same, Difference]]:
    from statex.execute.in_memory import InMemoryRun

    left, right = (InMemoryRun(side, inputs.load) for side in _sides(plan))
    for same in plan.same:
        yield same, _difference(left.output(same.one), right.output(same.other))


def _difference(one: Any, other: Any) -> Difference:
    import torch

    a, b = (tensor.detach().cpu().contiguous().reshape(-1) for tensor in (one, other))
    if not a.numel() or torch.equal(a.view(torch.uint8), b.view(torch.uint8)):
        return Difference(a.numel())
    unequal = (a.view(torch.uint8) != b.view(torch.uint8)).reshape(a.numel(), -1).any(1)
    wide = torch.complex128 if a.is_complex() else torch.float64
    x, y = a[unequal].to(wide), b[unequal].to(wide)
    apart = (x != y) & ~(x.isnan() & y.isnan())
    if not apart.any():
        return Difference(a.numel(), bits=int(unequal.sum()))
    far = (x - y).abs()[apart]
    elements = int(apart.sum())
    return Difference(
        a.numel(), elements, float(far.max()), float((far / y.abs()[apart]).max()), int(unequal.sum()) - elements
    )
