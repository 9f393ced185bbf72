"""Diagnostics: data here, rendering in `render`, codes and their pages in `codes`."""

from statex.diagnostics.model import (
    Collector,
    Diagnostic,
    Label,
    Note,
    Severity,
    StatexError,
    diagnostic,
    fail,
    pointing_at,
)

__all__ = ["Collector", "Diagnostic", "Label", "Note", "Severity", "StatexError", "diagnostic", "fail", "pointing_at"]
