"""Every code is declared once, in the module of its family; `statex explain CODE` prints its page.

Families: 1xx syntax and patterns, 2xx names and types of parameters, 3xx keys, 4xx shapes and dtypes, 5xx target,
6xx files and safety, 7xx recipes, 8xx migrations, 9xx lints.
"""

from __future__ import annotations

from statex.diagnostics.codes.registry import Code, all_codes, declare, find_code

__all__ = ["Code", "all_codes", "declare", "find_code"]
