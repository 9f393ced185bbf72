"""Makes the tables of the parser for a wheel or an editable install: computing them takes longer than a command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TablesHook(BuildHookInterface[Any]):
    """Writes `statex/grammar/tables.json`, which git does not keep."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the file before the files of the wheel are collected."""
        sys.path.insert(0, self.root)
        try:
            from statex.grammar.tables import FILE, packed
        finally:
            sys.path.remove(self.root)
        Path(self.root, "statex", "grammar", FILE).write_text(packed(), encoding="utf-8")
