"""What moments do not follow: each is refused by its code, and only where elements are touched."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import statex
from tests.without_torch import run_without_torch

State = dict[str, Any]
Make = Callable[[Any], torch.optim.Optimizer]


def checkpoint(make: Make, steps: dict[str, int] | None = None) -> State:
    """Return two matrices and a bias with their optimizer; `steps` says how often each was stepped on."""
    torch.manual_seed(0)
    state = {"a.weight": torch.randn(4, 6), "a.bias": torch.randn(4), "b.weight": torch.randn(4, 6)}
    found = {key: torch.nn.Parameter(tensor.clone()) for key, tensor in state.items()}
    optimizer = make([*found.values()])
    for step in range(3):
        for key, p in found.items():
            p.grad = torch.randn_like(p) if step < (steps or {}).get(key, 3) else None
        optimizer.step()
    return {"model": state, "optimizer": optimizer.state_dict()}


def code_of(rules: str, state: State | Path) -> str | None:
    try:
        statex.compile(f"{rules}\nfollow 'optimizer'").plan(state, root="model")
    except statex.StatexError as error:
        (found,) = error.diagnostics
        return found.code.id
    return None


MERGE = "merge a.weight as a, b.weight as b -> c.weight = cat(a, b)"
ADAM: Make = torch.optim.Adam


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("set a.weight = it * 2", "SX343"), ("set a.weight = it + 1", "SX343"), ("set a.weight = it ** 2", "SX343"),
        ("set a.weight = it @ transpose(it)", "SX343"), ("set a.weight = mean(dim=0)", "SX343"),
        ("set a.bias = abs", "SX343"), ("set a.weight = (it + b.weight) / 2", "SX343"),
        ("set a.weight = unsqueeze(0) | interpolate(3) | squeeze(0)", "SX343"),
        ("set a.weight = it * 2\ndrop a.weight", None), ("set a.weight = ones_like", None), (MERGE, None),
    ],
)  # fmt: skip
def test_of_operations(rules: str, code: str | None) -> None:
    assert code_of(rules, checkpoint(ADAM)) == code


def test_of_names_that_are_given_twice() -> None:
    state = checkpoint(ADAM)
    (group,) = state["optimizer"]["param_groups"]
    group["param_names"] = ["a.weight", "a.bias", "a.weight"]
    assert code_of("set a.weight = transpose", state) == "SX342"


def test_of_two_parameters_that_are_one_tensor() -> None:
    state = checkpoint(ADAM)
    state["model"]["b.weight"] = state["model"]["a.weight"]
    (group,) = state["optimizer"]["param_groups"]
    group["param_names"] = ["a.weight", "a.bias", "b.weight"]
    assert code_of("set a.bias = -it", state) == "SX342"


def test_of_different_steps() -> None:
    assert code_of(MERGE, checkpoint(ADAM, {"b.weight": 2})) == "SX344"
    assert code_of(MERGE, checkpoint(ADAM, {"b.weight": 0})) == "SX344"
    assert code_of(MERGE, checkpoint(ADAM, {"b.weight": 0, "a.weight": 0})) is None
    assert code_of("drop b.weight", checkpoint(ADAM, {"b.weight": 0})) is None


def test_of_different_steps_in_a_file(tmp_path: Path) -> None:
    """Steps are read from files, and from memory above, as other numbers that are kept of each parameter."""
    path = tmp_path / "in.pt"
    for b, dtype, code in ((3, None, None), (2, None, "SX344"), (3, torch.float64, "SX344")):
        state = checkpoint(ADAM, {"b.weight": b})
        if dtype is not None:
            state["optimizer"]["state"][2]["step"] = state["optimizer"]["state"][2]["step"].to(dtype)
        torch.save(state, path)
        assert code_of(MERGE, path) == code


def test_steps_of_a_file_are_compared_with_its_checksums(tmp_path: Path) -> None:
    torch.save(checkpoint(ADAM), tmp_path / "in.pt")
    with zipfile.ZipFile(tmp_path / "in.pt") as archive:
        records = {one.filename: one for one in archive.infolist()}
        steps = [one for name, one in records.items() if "/data/" in name and one.file_size == 4]
        place = steps[-1].header_offset
    content = bytearray((tmp_path / "in.pt").read_bytes())
    lengths = struct.unpack("<HH", content[place + 26 : place + 30])
    content[place + 30 + sum(lengths)] ^= 1
    (tmp_path / "in.pt").write_bytes(content)
    assert code_of(MERGE, tmp_path / "in.pt") == "SX604"


def test_steps_are_compared_without_torch(tmp_path: Path) -> None:
    torch.save(checkpoint(ADAM), tmp_path / "in.pt")
    run_without_torch("plan", "-e", MERGE, tmp_path / "in.pt", "--root", "model")


def test_where_moments_do_not_begin_with_zero() -> None:
    grown = "set a.weight = pad([0, 0, 0, 2])"
    assert code_of(grown, checkpoint(torch.optim.Rprop)) == "SX343"
    assert code_of(grown, checkpoint(torch.optim.ASGD)) == "SX343"
    assert code_of("set a.weight = transpose", checkpoint(torch.optim.Rprop)) is None


@pytest.mark.parametrize("rules", ["set a.weight = resize([8, 2])", "set a.weight = pad([2, -2])"])
def test_new_elements_are_seen_where_there_are_no_more_of_them(rules: str) -> None:
    assert code_of(rules, checkpoint(torch.optim.Rprop)) == "SX343"
    state = checkpoint(ADAM)
    (followed,) = statex.compile(f"{rules}\nfollow 'optimizer'").plan(state, root="model").followed
    assert followed.account.grown == ("a.weight",)


def test_padding_with_elements_that_are_there_grows_nothing() -> None:
    rules = "set a.weight = unsqueeze(0) | pad([1, 1], mode=reflect) | squeeze(0)"
    assert code_of(rules, checkpoint(torch.optim.Rprop)) is None
    (followed,) = statex.compile(f"{rules}\nfollow 'optimizer'").plan(checkpoint(ADAM), root="model").followed
    assert followed.account.grown == ()


def test_of_slots_that_are_not_known_to_begin_with_zero() -> None:
    # The optimizers without a schedule keep a second copy of the parameter, `z`.
    state = checkpoint(ADAM)
    for kept in state["optimizer"]["state"].values():
        kept["z"] = torch.ones_like(kept["exp_avg"])
    assert code_of("set a.weight = pad([0, 0, 0, 2], value=0.5)", state) == "SX343"
    assert code_of("set a.weight = transpose", state) is None
    assert code_of("set a.weight = it[:2]", state) is None


def test_of_rows_and_columns() -> None:
    state = checkpoint(torch.optim.Adafactor)
    for rules, code in [
        ("rename a.weight -> x.weight\ndrop b.weight", None), ("set a.weight = transpose", "SX345"), (MERGE, "SX345"),
        ("set a.bias = flip(0)", None),
    ]:  # fmt: skip
        assert code_of(rules, state) == code, rules
    after = statex.compile("rename a.weight -> x.weight\ndrop b.weight").apply(state, root="model")["optimizer"]
    old = state["optimizer"]["state"][0]
    assert all(torch.equal(after["state"][0][slot], value) for slot, value in old.items())


def test_of_whole_matrices() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("torch is older than Muon")
    state = checkpoint(lambda params: torch.optim.Muon([p for p in params if p.ndim == 2]))
    assert code_of(MERGE, state) == "SX345"
    assert code_of("split a.weight -> {p:q|k}.weight = chunk(2)", state) == "SX345"
    assert code_of("set a.weight = transpose", state) is None


def test_of_slots_whose_sign_is_not_known() -> None:
    state = checkpoint(ADAM)
    for entry in state["optimizer"]["state"].values():
        entry["velocity"] = entry.pop("exp_avg")
    assert code_of("set a.weight = -it", state) == "SX343"
    assert code_of("set a.weight = flip(0)", state) is None


def test_what_only_moves_is_copied_as_bytes(tmp_path: Path) -> None:
    state = checkpoint(ADAM)
    torch.save(state, tmp_path / "in.pt")
    rules = f"root 'model'\nsplit a.weight -> {{p:q|k}}.weight = chunk(2)\n{MERGE.replace('a.weight', 'q.weight')}"
    cost = statex.compile(rules).plan(tmp_path / "in.pt").cost
    assert cost is not None
    assert cost.computed == 0
    assert cost.copied == sum(3 * 4 * tensor.numel() for tensor in state["model"].values()) + 3 * 4


def test_names_for_several_optimizers() -> None:
    """Each has its own, by its path; where they are missing, it is said; another path is refused."""
    state = {"a.weight": torch.randn(4, 6), "b.weight": torch.randn(4, 6)}
    found = {key: torch.nn.Parameter(tensor.clone()) for key, tensor in state.items()}
    both = {key: ADAM([parameter]) for key, parameter in found.items()}
    for key, optimizer in both.items():
        found[key].grad = torch.randn(4, 6)
        optimizer.step()
    checkpoint = {"model": state, "optimizers": {key[0]: one.state_dict() for key, one in both.items()}}
    program = statex.compile("rename a.weight -> c.weight\nset b.weight = transpose\nfollow 'optimizers'")
    with pytest.raises(statex.StatexError) as missing:
        program.plan(checkpoint, root="model")
    assert [one.code.id for one in missing.value.diagnostics] == ["SX341", "SX341"]
    assert str(missing.value).count('a mapping from their paths to lists: {"optimizers.a": [[…]], …}') == 2
    with pytest.raises(statex.StatexError, match=r"did you mean `optimizers\.a`") as other:
        program.plan(checkpoint, root="model", param_names={"optimizers.aa": ["a.weight"]})
    assert [one.code.id for one in other.value.diagnostics] == ["SX347"]
    names = {f"optimizers.{key[0]}": [key] for key in state}
    done = program.apply(checkpoint, root="model", param_names=names)["optimizers"]
    assert torch.equal(done["a"]["state"][0]["exp_avg"], both["a.weight"].state_dict()["state"][0]["exp_avg"])
    assert torch.equal(done["b"]["state"][0]["exp_avg"], both["b.weight"].state_dict()["state"][0]["exp_avg"].T)


def test_of_a_parameter_without_steps() -> None:
    with pytest.raises(statex.StatexError, match=r"kept nothing of `b\.weight`, which has had no step"):
        statex.compile(f"{MERGE}\nfollow 'optimizer'").plan(checkpoint(ADAM, {"b.weight": 0}), root="model")
