"""From the names of dtypes to torch's own: some are younger than the oldest torch that is supported."""

from __future__ import annotations

from typing import Any

from statex.diagnostics import fail
from statex.diagnostics.codes import files as codes


def torch_dtype(torch: Any, name: str) -> Any:
    """Return the dtype that torch has under a name; `torch` is the module.

    Raises:
        StatexError: SX621 where the installed torch is older than the dtype.
    """
    found = getattr(torch, name, None)
    if found is None:
        fail(
            codes.NO_SUCH_DTYPE,
            f"the installed torch {torch.__version__} has no {name}",
            help="pip install --upgrade torch",
        )
    return found
