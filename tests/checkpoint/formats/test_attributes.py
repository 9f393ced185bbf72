"""Tensors that Python code has set attributes on are tensors like any other, and keep these."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import statex
from tests.checkpoint.archives import Record, archive, records_of


def parameter(*shape: int, **attributes: Any) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.randn(*shape))
    vars(made).update(attributes)
    return made


def attributed() -> dict[str, Any]:
    """A Parameter and a plain tensor with attributes; one of these is a tensor of the state."""
    scale = torch.arange(3.0)
    plain = torch.randn(3, 2)
    plain.kind = "scaled"  # type: ignore[attr-defined]
    plain.scale = scale  # type: ignore[attr-defined]
    return {"a.weight": parameter(2, 3, no_decay=True, lr=0.5), "b.weight": plain, "b.scale": scale}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(attributed(), tmp_path / "in.pth")
    return tmp_path / "in.pth"


def test_they_are_dense_tensors(saved: Path) -> None:
    header = statex.read_header(saved)
    kinds = {key: str(getattr(info, "type", info)) for key, info in header.entries.items()}
    assert kinds == {"a.weight": "f32[2, 3]", "b.weight": "f32[3, 2]", "b.scale": "f32[3]"}
    assert getattr(header.entries["a.weight"], "is_parameter", False)


def test_a_state_of_nothing_else_is_found(tmp_path: Path) -> None:
    torch.save({"model": {"w": parameter(2, no_decay=True)}, "epoch": 3}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "set ** = it * 2")
    assert torch.load(tmp_path / "out.pth")["model"]["w"].no_decay is True


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_attributes_follow_renames_and_set(tmp_path: Path, weights_only: bool, protocol: int) -> None:
    state = attributed()
    torch.save(state, tmp_path / "in.pth", pickle_protocol=protocol)
    rules = "rename prefix '' -> 'm.'\nset m.a.weight, m.b.weight = it * 2"
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", rules, verify_written=True)
    found = torch.load(tmp_path / "out.pth", weights_only=weights_only)
    assert type(found["m.a.weight"]) is torch.nn.Parameter
    assert vars(found["m.a.weight"]) == {"no_decay": True, "lr": 0.5}
    assert type(found["m.b.weight"]) is torch.Tensor
    assert list(vars(found["m.b.weight"])) == ["kind", "scale"]
    assert torch.equal(found["m.a.weight"], state["a.weight"] * 2)
    assert torch.equal(found["m.b.weight"], state["b.weight"] * 2)


def test_a_tensor_that_is_an_attribute_is_the_same_one(saved: Path) -> None:
    statex.convert(saved, saved.with_name("out.pth"), "rename b.scale -> scale", verify_written=True)
    found = torch.load(saved.with_name("out.pth"))
    assert found["b.weight"].scale is found["scale"]
    assert torch.equal(found["scale"], torch.arange(3.0))


def test_tied_parameters_stay_one(tmp_path: Path) -> None:
    tied = parameter(4, no_decay=True)
    torch.save({"a": tied, "b": tied}, tmp_path / "in.pth")
    for name, rules in (("moved", "rename a -> c"), ("made", "set a, b = it + 1; rename a -> c")):
        statex.convert(tmp_path / "in.pth", tmp_path / f"{name}.pth", rules)
        found = torch.load(tmp_path / f"{name}.pth")
        assert found["b"] is found["c"]
        assert vars(found["b"]) == {"no_decay": True}


def test_pieces_have_those_of_the_whole_and_a_whole_those_in_common(tmp_path: Path) -> None:
    state = {"q": parameter(2, 2, no_decay=True, tag="q"), "k": parameter(2, 2, no_decay=True, tag="k")}
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "qk.pth", "merge q as q, k as k -> qk = cat(q, k)")
    assert vars(torch.load(tmp_path / "qk.pth")["qk"]) == {"no_decay": True}
    statex.convert(tmp_path / "qk.pth", tmp_path / "out.pth", "split qk -> {p:q|k} = chunk(2)")
    assert [vars(one) for one in torch.load(tmp_path / "out.pth").values()] == [{"no_decay": True}] * 2


def test_safetensors_has_no_place_for_them(saved: Path) -> None:
    statex.convert(saved, saved.with_name("out.safetensors"), "")
    assert set(load_file(saved.with_name("out.safetensors"))) == {"a.weight", "b.weight", "b.scale"}


def test_in_memory_and_when_read_one_by_one(saved: Path) -> None:
    for given in (attributed(), saved):
        made = statex.compile("set a.weight, b.weight = it * 2").apply(given)
        assert vars(made["a.weight"]) == {"no_decay": True, "lr": 0.5}
        assert type(made["a.weight"]) is torch.nn.Parameter
        assert made["b.weight"].kind == "scaled"
        assert torch.equal(made["b.weight"].scale, torch.arange(3.0))
    with statex.open(saved) as checkpoint:
        assert checkpoint["a.weight"].no_decay is True
        assert torch.equal(checkpoint["b.weight"].scale, torch.arange(3.0))


def test_states_in_memory_are_written_with_them(tmp_path: Path) -> None:
    state = attributed()
    statex.convert(state, tmp_path / "out.pth", "set a.weight = it * 2")
    found = torch.load(tmp_path / "out.pth")
    assert vars(found["a.weight"]) == {"no_decay": True, "lr": 0.5}
    assert torch.equal(found["b.weight"].scale, torch.arange(3.0))


def test_an_attribute_that_torch_files_cannot_hold_is_named(tmp_path: Path) -> None:
    with pytest.raises(statex.StatexError, match="cannot be written") as caught:
        statex.convert({"w": parameter(2, made_by=tmp_path)}, tmp_path / "out.pth", "")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX614"]


def test_names_of_attributes_mean_nothing_to_python(tmp_path: Path) -> None:
    """Set one by one, as torch does, `data` and `__class__` would change the tensor."""
    torch.save({"w": parameter(2, xx=torch.zeros(5)), "v": parameter(2, klass=torch.nn.Parameter)}, tmp_path / "in.pth")
    renamed = [
        (b"X\x02\x00\x00\x00xx", b"X\x04\x00\x00\x00data"),
        (b"X\x05\x00\x00\x00klass", b"X\x09\x00\x00\x00__class__"),
    ]
    records = records_of(tmp_path / "in.pth")
    for old, new in renamed:
        records = [Record(r.name, r.data.replace(old, new)) for r in records]
    (tmp_path / "in.pth").write_bytes(archive(records))
    with statex.open(tmp_path / "in.pth") as checkpoint:
        assert checkpoint["w"].data.shape == checkpoint["w"].shape == (2,)
        assert isinstance(checkpoint["v"], torch.nn.Parameter)


def test_attributes_that_hold_their_tensor_are_refused(tmp_path: Path) -> None:
    torch.save({"w": parameter(2, me=[])}, tmp_path / "in.pth")
    records = records_of(tmp_path / "in.pth")
    (pickled,) = (r.data for r in records if r.name.endswith("data.pkl"))
    # At its end, the list among the attributes gets the tensor: `w` and the list are in the memo.
    import pickletools

    places = [(op.name, arg) for op, arg, _ in pickletools.genops(pickled)]
    of_list = next(places[n + 1][1] for n, (name, _) in enumerate(places) if name == "EMPTY_LIST")
    of_tensor = [arg for name, arg in places if name == "BINPUT"][-1]
    cyclic = pickled[:-1] + b"h%ch%ca0." % (of_list, of_tensor)
    (tmp_path / "in.pth").write_bytes(archive([Record(r.name, cyclic) if r.data == pickled else r for r in records]))
    with pytest.raises(statex.StatexError, match="holds itself"):
        statex.read_header(tmp_path / "in.pth")


def test_ordered_states_keep_their_order(tmp_path: Path) -> None:
    state = OrderedDict((f"{n}.w", parameter(2, place=n)) for n in range(300))
    torch.save(state, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "rename prefix '' -> 'm.'", verify_written=True)
    found = torch.load(tmp_path / "out.pth")
    assert [(key, one.place) for key, one in found.items()] == [(f"m.{n}.w", n) for n in range(300)]
