"""Two tensors of a module that stand for one."""

from __future__ import annotations

from statex.relating.names.choices import apart

_PARAMETRIZED = "parametrizations"
"""The module of torch.nn.utils.parametrize that has the tensors which a weight is made of, under its name."""


def key_of_both(one: str, other: str, new: str) -> str:
    """Return the key of the tensor that two of a module are made of: what their names have in common at the start.

    Where they have nothing in common, it is called as the `new` tensor is.
    """
    *module, last = one.split(".")
    if len(module) > 1 and module[-2] == _PARAMETRIZED:
        return ".".join([*module[:-2], module[-1]])
    before, _, _ = apart([last, other.rpartition(".")[2]])
    return ".".join([*module, before.rstrip("_") or new.rpartition(".")[2]])
