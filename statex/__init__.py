"""statex: a small language and a safe engine for changing PyTorch checkpoints.

    import statex

    rules = statex.load("rules.sx")
    new_state = rules.apply(old_state, heads=32, target=model)

Nothing here imports torch before tensors are touched.
"""

from statex.api import Rules, compile, load, read_header, verify
from statex.convert import Conversion, convert
from statex.diagnostics import Diagnostic, StatexError
from statex.dsl.plan import Plan

__version__ = "0.1.0"

__all__ = [
    "Conversion",
    "Diagnostic",
    "Plan",
    "Rules",
    "StatexError",
    "__version__",
    "compile",
    "convert",
    "load",
    "read_header",
    "verify",
]
