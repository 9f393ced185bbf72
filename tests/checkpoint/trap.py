"""Only a pickle that is run imports this: whoever just reads one does not."""

from __future__ import annotations

from typing import Any


def spring(*given: Any) -> Any:
    """Do nothing: to be imported is enough."""


class Trap:
    """Whose every way of being made is a trap."""

    def __setstate__(self, state: Any) -> None:
        spring()
