"""The table of codes and the form of a declaration."""

from __future__ import annotations

from importlib import import_module

from statex.core.record import record

FAMILIES = (
    "syntax",
    "patterns",
    "names",
    "keys",
    "following",
    "types",
    "target",
    "files",
    "recipes",
    "migrations",
    "lints",
)
"""The modules that declare codes, in the order of their numbers."""


@record
class Code:
    """A kind of diagnostic: what it is called, how the process ends with it, and its page.

    `exit` is the exit code: 1 rules and checkpoint or target do not fit, 2 wrong usage, 3 a file that cannot be read,
    is not safe or cannot be written; 0 for lints. `example` is the smallest text that shows it; `fix` says what to do.
    """

    id: str
    title: str
    exit: int
    meaning: str
    example: str
    fix: str

    @property
    def is_lint(self) -> bool:
        """True for the 9xx family, which warns."""
        return self.id.startswith("SX9")


_codes: dict[str, Code] = {}


def declare(id: str, title: str, *, exit: int = 1, meaning: str, example: str, fix: str) -> Code:
    """Enter a code into the table; declaring one twice is a mistake in statex itself."""
    if id in _codes:
        raise ValueError(f"{id} is declared twice")
    code = Code(id, title, exit, meaning, example, fix)
    _codes[id] = code
    return code


def all_codes() -> tuple[Code, ...]:
    """Return every code, in the order of the numbers."""
    for family in FAMILIES:
        import_module(f"statex.diagnostics.codes.{family}")
    return tuple(sorted(_codes.values(), key=lambda code: code.id))


def find_code(id: str) -> Code | None:
    """Return the code of that name (case does not matter, `301` means `SX301`), or `None`."""
    name = id.upper()
    name = name if name.startswith("SX") else f"SX{name}"
    return next((code for code in all_codes() if code.id == name), None)
