"""A module's past: its chain with parameters, and an old state of it made new."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from statex import garbage
from statex.diagnostics import Diagnostic, diagnostic, fail
from statex.diagnostics.codes import lints
from statex.diagnostics.codes import migrations as codes
from statex.diagnostics.suggest import join_words
from statex.dsl.metadata import STAMP, Metadata
from statex.execute.live import describe
from statex.execute.memory import execute
from statex.execute.target import described
from statex.header import Header
from statex.migrating.chain import Chain
from statex.migrating.layouts import Layouts, check_given
from statex.migrating.stamp import stamp, stamped_layout
from statex.nesting import state_header


@dataclass(frozen=True)
class Migrated:
    """What came of a state: a new one with its `_metadata`, or `None` where it stays as it is."""

    state: OrderedDict[str, Any] | None = None
    metadata: Metadata | None = None
    warnings: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Past:
    """The chain of a module, the values of its parameters, and the layout of states that carry no version."""

    chain: Chain
    given: Mapping[str, Any] = field(default_factory=dict)
    assume: int | None = None

    def check(self) -> None:
        """Refuse parameters and layouts that the chain does not have.

        Raises:
            StatexError: SX204, SX205, SX206 and SX217 for parameters, SX812 for `assume`.
        """
        check_given(self.chain, self.given)
        last = self.chain.version
        if self.assume is not None and not (type(self.assume) is int and 0 <= self.assume <= last):
            fail(
                codes.NO_LAYOUT,
                f"the chain `{self.chain.label}` has no layout {self.assume}",
                notes=[f"it has the layouts 0 to {last}: 0 is before the first step, {last} after the last"],
            )

    @property
    def stamp(self) -> dict[str, Any]:
        """What is noted of the states that the module saves."""
        return stamp(self.chain, self.given)

    def migrate(
        self, module: Any, state: Mapping[str, Any], metadata: Metadata | None, apart: tuple[str, ...] = ()
    ) -> Migrated:
        """Return a state of the module in its present layout; neither the state given nor its `_metadata` changes.

        The keys and paths are those of the module itself, without the path that it has in a larger one. Modules
        inside that have chains of their own are below the prefixes that stand `apart`.

        Raises:
            StatexError: SX806 to SX809 where the layout cannot be told, or is not what is said of it.
        """
        with garbage.paused():
            header = _header(module, state, metadata)
            layouts = Layouts(self.chain, self.given, described(module, type(module).__name__), header, apart)
            layout = self._layout(layouts, metadata)
            if layout is None:
                return Migrated(warnings=_unknown(layouts))
            plan = layouts.fit(layout).plan
            if layout == layouts.present or plan is None:
                return Migrated()
            made = execute(plan, lambda key: header.entries[key.key].handle)
            return Migrated(made, self._renewed(plan.metadata), plan.warnings)

    def _layout(self, layouts: Layouts, metadata: Metadata | None) -> int | None:
        label = layouts.header.label
        stated = stamped_layout((metadata or {}).get(""), self.chain, label)
        if stated is not None:
            return layouts.stated(stated, "its version says")
        if self.assume is not None:
            return layouts.stated(self.assume, "`assume` says")
        return layouts.recognised()

    def _renewed(self, metadata: Metadata | None) -> Metadata | None:
        if metadata is None:
            return None
        renewed = OrderedDict(metadata)
        renewed[""] = {**renewed.get("", {}), STAMP: self.stamp}
        return renewed


def _header(module: Any, state: Mapping[str, Any], metadata: Metadata | None) -> Header:
    tree: Any = OrderedDict(describe(OrderedDict(state)))
    if metadata is not None:
        tree._metadata = metadata
    return state_header(tree, "", f"the state of {type(module).__name__}")


def _unknown(layouts: Layouts) -> tuple[Diagnostic, ...]:
    """Say that a state is of no layout where it has keys that are not the module's: `strict=False` would drop them."""
    found = layouts.fit(layouts.present).comparison
    if found is None or not found.unexpected:
        return ()
    keys = join_words([f"`{key}`" for key in found.unexpected], limit=3)
    return (
        diagnostic(
            lints.LAYOUT_UNKNOWN,
            f"{layouts.header.label} fits none of the layouts 0 to {layouts.present}, and is loaded as it is",
            notes=[f"{found.target} has no {keys}"],
            help="if it is part of an old state, say of which layout: assume=0",
        ),
    )
