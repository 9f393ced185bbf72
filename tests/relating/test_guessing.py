"""What is said of keys that nobody can guess."""

from __future__ import annotations

import pytest

from statex.core.dtypes import BY_NAME
from statex.core.header import TensorType
from statex.inferring.nearest import nearest
from statex.relating import words
from statex.relating.guessing import guessed

F32 = BY_NAME["float32"]


def layers(name: str, count: int, *shape: int) -> dict[str, TensorType]:
    return {f"{name}.layers.{i}.mlp.{leaf}": TensorType(F32, shape) for i in range(count) for leaf in ("up", "down")}


def test_what_nothing_explains_is_near_the_old_key_with_its_number() -> None:
    old, new = layers("model", 3, 4, 5), layers("net", 4, 4, 7)
    near = nearest(guessed(old, new).relations, old, new)
    assert near["net.layers.2.mlp.up"] == "model.layers.2.mlp.up"
    assert near["net.layers.3.mlp.down"] == "model.layers.0.mlp.down"
    assert list(near) == list(layers("net", 4))


def test_nothing_is_near_where_nothing_is() -> None:
    new = layers("net", 2, 4, 7)
    assert nearest(guessed({}, new).relations, {}, new) == dict.fromkeys(new)


def test_names_are_read_by_class_and_not_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    # The help for a state that does not fit its target waits for this.
    read: list[str] = []
    monkeypatch.setattr(words, "words_of", lambda name: (read.append(name), *name.split("."))[1:])
    found = guessed(layers("model", 100, 4, 5), layers("net", 100, 4, 7))
    assert len(found.relations.unexplained) == 200
    assert len(read) < 100
