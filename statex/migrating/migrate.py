"""The past of a module: its chain with parameters, and the migration of an old state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from statex.core import garbage
from statex.core.header import Header
from statex.diagnostics import Diagnostic, diagnostic
from statex.diagnostics.codes import lints
from statex.diagnostics.suggest import join_words
from statex.dsl.plan.metadata import Metadata, unstamped
from statex.execute.in_memory import execute
from statex.execute.live import describe
from statex.execute.verify.target import described
from statex.migrating.chain import Chain
from statex.migrating.layouts import Layouts, check_given, check_layout
from statex.migrating.stamp import Stamp, carried, noted_stamp, stamp
from statex.session.stamps import stamped
from statex.trees.envelope import state_header


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
        check_layout(self.chain, self.assume)

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
            StatexError: SX806 to SX809 where the layout cannot be told, or is not what is said of it, SX823 for a
                parameter that had another value in the steps that led to it.
        """
        with garbage.paused():
            header = _header(module, state, metadata)
            noted = noted_stamp((metadata or {}).get(""), self.chain, header.label)
            given = carried(self.chain, noted, self.given, header.label) if noted is not None else self.given
            layouts = Layouts(self.chain, given, described(module, type(module).__name__), header, apart)
            layout = self._layout(layouts, noted)
            if layout is None:
                return Migrated(warnings=_unknown(layouts))
            plan = layouts.fit(layout).plan
            if layout == layouts.present or plan is None:
                return Migrated()
            made = execute(plan, lambda key: header.entries[key.key].handle)[0]
            renewed = stamped(plan.metadata, "", stamp(self.chain, given)) if plan.metadata is not None else None
            return Migrated(made, renewed, plan.warnings)

    def _layout(self, layouts: Layouts, noted: Stamp | None) -> int | None:
        if noted is not None:
            return layouts.stated(noted.layout, "its version says")
        if self.assume is not None:
            return layouts.stated(self.assume, "`assume` says")
        return layouts.recognised()


def _header(module: Any, state: Mapping[str, Any], metadata: Metadata | None) -> Header:
    tree: Any = OrderedDict(describe(OrderedDict(state)))
    if metadata is not None:
        # Its own version is the module's wherever its keys go.
        tree._metadata = OrderedDict(metadata) | {"": unstamped(metadata.get("", {}))}
    return state_header(tree, (), f"the state of {type(module).__name__}")


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
