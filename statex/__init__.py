"""statex: a small language and a safe engine for changing PyTorch checkpoints.

    import statex

    rules = statex.load("rules.sx")
    new_state = rules.apply(old_state, heads=32, target=model)

Nothing here imports torch before tensors are touched, and no part of statex is imported before it is used, so that a
command handles signals before it starts anything slow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from statex.version import VERSION

if TYPE_CHECKING:
    from statex.api import compare, convert, diff, infer, open, read_header, verify
    from statex.core.foreign import Foreign
    from statex.core.progress import Progress
    from statex.diagnostics import Diagnostic, StatexError
    from statex.dsl.plan.plan import Plan
    from statex.embedding import attach, detach, migrate, migrate_state, migrations
    from statex.execute.verify.verification import Comparison
    from statex.inferring.infer import Inferred
    from statex.inverse.losses import LossReport, lossless
    from statex.inverse.program import InverseRules
    from statex.migrating.chain import Chain
    from statex.migrating.hooks import StatexWarning
    from statex.rules import Rules, compile, load, quote
    from statex.session.compared import Compared
    from statex.session.conversion import Conversion
    from statex.session.lazy import Checkpoint

__version__ = VERSION

__all__ = [
    "Chain",
    "Checkpoint",
    "Compared",
    "Comparison",
    "Conversion",
    "Diagnostic",
    "Foreign",
    "Inferred",
    "InverseRules",
    "LossReport",
    "Plan",
    "Progress",
    "Rules",
    "StatexError",
    "StatexWarning",
    "__version__",
    "attach",
    "compare",
    "compile",
    "convert",
    "detach",
    "diff",
    "infer",
    "load",
    "lossless",
    "migrate",
    "migrate_state",
    "migrations",
    "open",
    "quote",
    "read_header",
    "verify",
]

_OWNERS = {
    "Chain": "migrating.chain",
    "Checkpoint": "session.lazy",
    "Compared": "session.compared",
    "Comparison": "execute.verify.verification",
    "Conversion": "session.conversion",
    "Diagnostic": "diagnostics",
    "Foreign": "core.foreign",
    "Inferred": "inferring.infer",
    "InverseRules": "inverse.program",
    "LossReport": "inverse.losses",
    "StatexError": "diagnostics",
    "Plan": "dsl.plan.plan",
    "Progress": "core.progress",
    "Rules": "rules",
    "StatexWarning": "migrating.hooks",
    "attach": "embedding",
    "compile": "rules",
    "detach": "embedding",
    "load": "rules",
    "lossless": "inverse.losses",
    "migrate": "embedding",
    "migrate_state": "embedding",
    "migrations": "embedding",
    "quote": "rules",
}
"""The module that a name is of; all others are of `api`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'statex' has no attribute {name!r}")
    value = getattr(import_module(f"statex.{_OWNERS.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
