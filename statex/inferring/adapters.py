"""What the configuration beside an adapter says of the scale of its updates."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from math import sqrt
from pathlib import Path

from statex.core.record import record
from statex.core.text_file import Unreadable, read_text_file
from statex.grammar import factory as make
from statex.grammar import tree
from statex.session.request import State

CONFIG = "adapter_config.json"
_LARGEST = 16 << 20
_ALPHA = "lora_alpha"


@record
class AdapterConfig:
    """`lora_alpha` of an adapter, and whether it is divided by the square root of the rank."""

    alpha: float
    rooted: bool = False

    def scale(self, rank: int) -> float:
        """Return the scale of the updates of a rank."""
        return self.alpha / (sqrt(rank) if self.rooted else rank)

    def written(self, rank: tree.Expr) -> tree.Expr:
        """Return the scale as it is written, with the parameter `lora_alpha`."""
        return make.binary(make.name(_ALPHA), "/", make.call("sqrt", rank) if self.rooted else rank)

    @property
    def parameters(self) -> tuple[tuple[str, float], ...]:
        """The parameters that the written scale reads."""
        return ((_ALPHA, self.alpha),)


def configs_beside(inputs: Mapping[str, State], taken: Collection[str] = ()) -> dict[str, AdapterConfig]:
    """Return the configurations of adapters by input.

    There are none where two inputs have one, or the name of the parameter is `taken`: it is one of the whole program.
    """
    found = {name: config for name, state in inputs.items() if (config := _beside(state)) is not None}
    return found if len(found) == 1 and _ALPHA not in taken else {}


def _beside(state: State) -> AdapterConfig | None:
    if not isinstance(state, str | os.PathLike):
        return None
    path = Path(state)
    try:
        config = json.loads(read_text_file((path if path.is_dir() else path.parent) / CONFIG, _LARGEST))
    except (Unreadable, ValueError):
        return None  # it is a help, and nobody has asked for it
    alpha = config.get(_ALPHA) if isinstance(config, dict) else None
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        return None
    return AdapterConfig(alpha, config.get("use_rslora") is True)
