"""What torch's optimizers keep of each parameter, by the names that they give it."""

from __future__ import annotations

from collections.abc import Mapping

COUNTERS = frozenset(("step", "mu", "eta", "mu_product", "n_avg"))
"""Numbers of a parameter's own, also where the parameter has no dims itself."""

SIGNED = frozenset(("exp_avg", "momentum_buffer", "grad_avg", "prev", "ax"))
"""Moments that change their sign with the gradient (or the parameter)."""
UNSIGNED = frozenset(
    ("exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum", "acc_delta", "step_size", "exp_avg_diff_sq")
)
"""Moments that do not."""

FACTORED = frozenset(("row_var", "col_var", "exp_avg_sq_row", "exp_avg_sq_col"))
"""What Adafactor keeps of the rows and columns of a matrix."""

_NOT_FROM_ZERO: Mapping[str, str] = {
    "step_size": "Rprop has a step size for every element, and one of 0 never grows",
    "ax": "ASGD keeps an average of the parameter itself, which does not begin with 0",
}
"""Moments that do not begin with zeros, and why."""

PER_MATRIX = ("ns_steps", "ns_coefficients", "trust_coefficient")
"""Options of optimizers whose step depends on a whole matrix, not on each element alone."""


def why_not_from_zero(slot: str) -> str:
    """Say why new elements of a slot cannot be zeros; empty if they begin with these."""
    if slot in _NOT_FROM_ZERO:
        return f"its `{slot}` cannot begin with 0: {_NOT_FROM_ZERO[slot]}"
    return "" if slot in SIGNED | UNSIGNED else f"whether `{slot}` begins with 0 is not known"
