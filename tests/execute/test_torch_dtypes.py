"""dtypes that the installed torch does not have: they move, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError


@pytest.mark.parametrize("rules", ["set b = cast(f8_e5m2)", "set a = exp(it); set b = ones(3, dtype=f8_e5m2)"])
@pytest.mark.parametrize("ending", [".pth", ".safetensors", ""])
def test_what_torch_is_too_old_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rules: str, ending: str) -> None:
    state = {"a": torch.ones(3), "b": torch.ones(3), "f8": torch.ones(3).to(torch.float8_e5m2)}
    save_file(state, tmp_path / "in.safetensors")
    wanted = state["f8"].view(torch.uint8)
    monkeypatch.delattr(torch, "float8_e5m2")
    if ending:
        statex.convert(tmp_path / "in.safetensors", tmp_path / f"moved{ending}", statex.compile("rename f8 -> x"))
    compiled = statex.compile(rules)
    with pytest.raises(StatexError) as caught:
        _ = (
            statex.convert(tmp_path / "in.safetensors", tmp_path / f"out{ending}", compiled)
            if ending
            else compiled.apply(tmp_path / "in.safetensors")
        )
    assert [d.code.id for d in caught.value.diagnostics] == ["SX621"]
    assert f"torch {torch.__version__} has no float8_e5m2" in str(caught.value)
    assert not (tmp_path / f"out{ending}").exists()
    monkeypatch.undo()
    if ending:
        found = (torch.load if ending == ".pth" else load_file)(tmp_path / f"moved{ending}")["x"]
        assert torch.equal(found.view(torch.uint8), wanted)
