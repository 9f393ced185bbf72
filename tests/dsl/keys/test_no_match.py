"""A pattern that matches nothing: how far keys go along with it, and what was probably meant."""

from __future__ import annotations

import pytest
import torch

import statex

KEYS = ["model.embed.weight", "model.layers.0.attn.q.weight", "model.layers.0.mlp.weight",
        "model.layers.1.attn.q.weight", "model.layers.1.mlp.weight", "head.default.weight", "scale"]  # fmt: skip

CASES = [
    ("a module", "drop model.layers", "4 keys match up to `model.layers.`; the next segments there are 0 and 1",
     "did you mean `model.layers.**`?"),
    ("a module somewhere", "drop attn", "the keys begin with model, head and scale", "did you mean `**.attn.**`?"),
    ("the end of a key", "drop q.weight", "the keys begin with", "did you mean `**.q.weight`?"),
    ("one star for several segments", "drop model.layers.*", "up to `model.layers.*.`",
     "did you mean `model.layers.**`?"),
    ("a capture for several segments", "drop model.layers.{i}.{r}", "4 keys match up to `model.layers.{i}.{r}.`",
     "did you mean `model.layers.{i}.{r:**}`?"),
    ("what is below a key", "drop scale.**", "1 key matches up to `scale`, and nothing follows there",
     "did you mean `scale`?"),
    ("a segment too few", "drop head.weight", "1 key matches up to `head.`; the next segment there is default",
     "did you mean `head.default.weight`?"),
    ("a segment too many", "drop base.head.default.weight", "", "did you mean `head.default.weight`?"),
    ("not what makes it any weight", "drop **.absent.weight", "the keys begin with", "if it may be absent: `drop?`"),
    ("each key counts once", "drop **.attn.absent", "2 keys match up to `**.attn.`", ""),
    ("renamed before", "rename part attn -> a\ndrop **.attn.q.weight",
     "`model.layers.0.attn.q.weight` was renamed by an earlier statement and is now `model.layers.0.a.q.weight`", ""),
    ("text that looks like a pattern", "drop 'model.layers.*'", "", "every character stands for itself"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "note", "help"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_was_meant(rules: str, note: str, help: str) -> None:
    with pytest.raises(statex.StatexError) as error:
        statex.compile(rules).plan({key: torch.zeros(1) for key in KEYS})
    (found,) = error.value.diagnostics
    text = str(error.value)
    assert found.code.id == "SX301"
    assert note in text
    assert help in text
    assert "did you mean `**.weight`" not in text
