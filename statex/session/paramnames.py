"""The names of an optimizer's parameters as they are given from outside: lists of names, group by group."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from statex.diagnostics import fail
from statex.diagnostics.codes import following as codes
from statex.diagnostics.suggest import did_you_mean, join_words
from statex.following.parameters import WRITES_NAMES

NamesByGroup = Sequence[Sequence[str]]
ParamNames = Mapping[str, NamesByGroup] | NamesByGroup | Sequence[str] | str | os.PathLike[str]
"""Names by group, or those of a single group; or such names by the paths of optimizers; or the path of a file."""


class GivenNames:
    """The names that are given, for all optimizers or for each by its path.

    Raises:
        StatexError: SX223 for a file that cannot be read, SX347 for one of another form.
    """

    def __init__(self, given: ParamNames | None) -> None:
        self._label = "the names of parameters"
        held: Any = given
        if isinstance(given, str | os.PathLike):
            from statex.session.paramfiles import read_document

            self._label = f"`{os.fspath(given)}`"
            held = read_document(Path(given))
        self._each = {path: self._groups(one) for path, one in held.items()} if isinstance(held, Mapping) else {}
        self._all = self._groups(held) if held is not None and not isinstance(held, Mapping) else None

    @property
    def any(self) -> bool:
        """True where there are any."""
        return bool(self._each) or self._all is not None

    def of(self, dotted: str) -> NamesByGroup | None:
        """Return the names of the parameters of the optimizer at a path, if there are any."""
        return self._each.get(dotted, self._all)

    def check_paths(self, there: Sequence[str]) -> None:
        """Refuse names that are given for an optimizer at a path where none is.

        Raises:
            StatexError: SX347.
        """
        for path in self._each:
            if path not in there:
                fail(
                    codes.PARAM_NAMES,
                    f"{self._label}: there is no optimizer `{path}` to have these names",
                    notes=[f"there are {join_words([f'`{one}`' for one in there], limit=4)}"] if there else (),
                    help=[f"did you mean `{one}`?" for one in did_you_mean(path, [*there])],
                )

    def _groups(self, held: Any) -> NamesByGroup:
        if not isinstance(held, list | tuple):
            self._refuse()
        groups = [held] if all(isinstance(one, str) for one in held) else held
        for group in groups:
            if not isinstance(group, list | tuple) or not all(isinstance(one, str) for one in group):
                self._refuse()
        return groups

    def _refuse(self) -> NoReturn:
        fail(
            codes.PARAM_NAMES,
            f"{self._label}: expected a list of names for each group of the optimizer",
            help=f"this line writes it: {WRITES_NAMES}",
        )
