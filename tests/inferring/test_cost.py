"""What inferring costs: memory, temporary files, how often files are opened and rules planned, what is looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import save_file

import statex
from statex.core.progress import Progress
from statex.dsl import planner
from statex.inferring import line_index, search
from statex.inferring.infer import infer
from statex.inferring.line_index import LineIndex
from statex.inferring.lines import dims_of, hash_of_zeros, line_hashes
from statex.inferring.sides import TensorSide
from statex.session import opened
from tests.execute.peaks import CAN_MEASURE, Peaks
from tests.inferring.test_corpus import BY_NAME, equal, inferred

State = dict[str, torch.Tensor]

NAMES = "rename part model.layers -> decoder.h"
MERGED = """
merge model.layers.{i}.{p:q|k|v}.weight over p -> model.layers.{i}.qkv.weight = cat
set **.out.weight, **.up.weight = transpose
rename part model.layers -> decoder.h
"""


def model(layers: int, width: int = 8, wide: int = 12) -> State:
    """Return layers of small matrices."""
    generator = torch.Generator().manual_seed(0)
    shapes = {**dict.fromkeys(("q", "k", "v", "out"), (width, width)), "up": (wide, width), "down": (width, wide)}
    return {
        f"model.layers.{i}.{name}.weight": torch.randn(shape, generator=generator)
        for i in range(layers) for name, shape in shapes.items()
    }  # fmt: skip


def made(state: State, rules: str) -> State:
    return dict(statex.compile(rules).apply(state))


def saved(folder: Path, name: str, state: State) -> Path:
    path = folder / name
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


# --- memory and files ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Counter[str]]:
    """Let memory hold 64 lines, and count the indices that go to a file; no file may be left."""
    counts: Counter[str] = Counter()
    leave = LineIndex.__exit__

    def counted(self: LineIndex, *error: object) -> None:
        counts["in a file" if self.is_in_file else "in memory"] += 1
        leave(self, *error)

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(line_index, "_HELD_LINES", 64)
    monkeypatch.setattr(line_index, "_BLOCK", 4)
    monkeypatch.setattr(LineIndex, "__exit__", counted)
    yield counts
    assert not [path for path in folder.iterdir() if path.is_file()]  # torch has a folder there


LAID_OUT = [name for name, case in BY_NAME.items() if any(word in case.rules for word in ("merge", "split", "rear"))]


@pytest.mark.parametrize("name", LAID_OUT[::6])
def test_lines_in_a_file_give_the_same_rules(name: str, small_memory: Counter[str]) -> None:
    expected = inferred(name).rules
    small_memory.clear()
    found = statex.infer(*BY_NAME[name].pair())
    assert found.rules == expected
    assert small_memory["in a file"]


def test_no_file_is_left_by_an_error(small_memory: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    state = model(3)

    def failing(*_: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(LineIndex, "found", failing)
    with pytest.raises(OSError, match="no"):
        statex.infer(state, made(state, MERGED))
    assert small_memory["in a file"] == 1


@pytest.mark.skipif(not CAN_MEASURE, reason="the system does not forget the highest resident set")
@pytest.mark.parametrize("rules", [NAMES, MERGED, "set ** = cast(bf16)"], ids=["names", "merged", "cast"])
def test_memory_does_not_grow_with_the_files(rules: str, tmp_path: Path) -> None:
    pairs = []
    for width in (64, 512):
        state = model(16, width, 2 * width)
        pairs.append(
            [saved(tmp_path, f"{name}{width}.safetensors", one) for name, one in
             {"old": state, "new": made(state, rules)}.items()]
        )  # fmt: skip
    nbytes = sum(path.stat().st_size for path in pairs[1])
    with Peaks() as peaks:
        added = peaks.measure_inferring(*pairs)["added"]
    assert nbytes > 180 << 20
    assert added < 32 << 20


# --- what is done once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("rules", [NAMES, MERGED], ids=["names", "merged"])
def test_files_are_opened_once_and_rules_planned_seldom(
    suffix: str, rules: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = model(20)
    old, new = saved(tmp_path, f"old{suffix}", state), saved(tmp_path, f"new{suffix}", made(state, rules))
    paths = Counter[str]()
    keys: list[int] = []
    open_one, compile_one = opened.open_checkpoint, planner.compile_plan

    def counted_open(path: Any) -> Any:
        paths[str(path)] += 1
        return open_one(path)

    def counted_plan(resolved: Any, header: Any, **options: Any) -> Any:
        keys.append(len(header.entries))
        return compile_one(resolved, header, **options)

    monkeypatch.setattr(opened, "open_checkpoint", counted_open)
    for place in ("statex.relating.planning", "statex.session.session"):
        monkeypatch.setattr(f"{place}.compile_plan", counted_plan)
    found = statex.infer(old, new)
    assert found.proved
    assert found.carries_over
    assert paths == {str(old): 1, str(new): 1}
    # Once to try the names, once for the proof; what is learned of a few layers is tried on these alone.
    assert len([count for count in keys if count > len(state) / 2]) == 2


def test_recorded_checksums_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = model(3)
    old, new = saved(tmp_path, "old.pth", state), saved(tmp_path, "new.pth", made(state, NAMES))
    read: list[str] = []
    monkeypatch.setattr(TensorSide, "_crc", lambda self, key: read.append(key))
    assert statex.infer(old, new).proved
    assert not read


def test_only_types_of_both_sides_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    state = model(2)
    new = made(state, MERGED)
    read: list[str] = []
    summed: Callable[[TensorSide, str], int] = TensorSide._crc

    def counted(self: TensorSide, key: str) -> int:
        read.append(key)
        return summed(self, key)

    monkeypatch.setattr(TensorSide, "_crc", counted)
    assert statex.infer(state, new).proved
    assert not any("qkv" in key for key in read)
    assert any("down" in key for key in read)


def test_progress_is_told_of_all_bytes() -> None:
    state = model(20)
    told: list[Progress] = []
    assert infer(state, made(state, MERGED), tell=told.append).proved
    ends = [one for one, after in zip(told, [*told[1:], Progress("end")], strict=True) if after.done < one.done]
    assert len(ends) == 3  # checksums, lines, the proof
    assert all(one.done == one.total > 0 for one in ends)


# --- a few layers ----------------------------------------------------------------------------------------------------


def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the new keys whose lines are looked up."""
    found: list[str] = []
    look_up = search._Search._looked_up

    def noted(self: Any, key: str, *rest: Any) -> Any:
        found.append(key)
        return look_up(self, key, *rest)

    monkeypatch.setattr(search._Search, "_looked_up", noted)
    return found


@pytest.mark.parametrize(
    "rules",
    [
        MERGED,
        "rename model.layers.{i:int}.{x:**} -> h.{i + 3}.{x}\nset ** = transpose where ndim == 2",
        "rename model.layers.{i:int}.{x:**} -> h.{19 - i}.{x}\nset **.up.weight = flip(0)",
        "split model.layers.{i}.up.weight -> model.layers.{i}.{p:a|b}.weight = transpose | chunk(2)",
        "split model.layers.{i}.up.weight over e -> model.layers.{i}.rows.{e}.weight = unstack",
        "set **.q.weight = rearrange('(h two d) c -> (h d two) c', h=2, two=2)",
    ],
)
def test_other_layers_are_as_a_few_are(rules: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = model(20)
    new = made(state, rules)
    with monkeypatch.context() as patch:
        patch.setattr(search, "some_layers", lambda *_: None)
        expected = statex.infer(state, new)
    keys = looked_up(monkeypatch)
    found = statex.infer(state, new)
    assert found.proved
    assert found.rules == expected.rules
    assert 0 < len(keys) < len(new) / 3


def test_a_layer_that_is_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    state = model(20)
    new = made(state, MERGED)
    one, other, third = new["decoder.h.7.qkv.weight"].chunk(3)
    new["decoder.h.7.qkv.weight"] = torch.cat([third, other, one])
    new["decoder.h.9.out.weight"] = state["model.layers.9.out.weight"].clone()
    keys = looked_up(monkeypatch)
    found = statex.infer(state, new)
    assert found.proved
    assert equal(made(state, found.rules), new)
    assert "decoder.h.7.qkv.weight" in keys


def test_one_bit_in_a_later_layer() -> None:
    state = model(20)
    new = {key: tensor.clone() for key, tensor in made(state, MERGED).items()}
    new["decoder.h.11.up.weight"].view(torch.int32)[1, 2] ^= 1
    found = statex.infer(state, new)
    assert not found.proved
    assert list(found.unexplained) == ["decoder.h.11.up.weight"]


# --- the index -------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_an_index_finds_what_is_there(data: st.DataObject) -> None:
    """Compared with looking through all lines, each as the sorted numbers in it."""
    shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
    kinds = data.draw(st.lists(shapes, min_size=1, max_size=6))
    seed = data.draw(st.integers(0, 2**31))
    numbers = numpy.random.default_rng(seed)
    tensors = [numbers.integers(0, 3, shape, dtype=numpy.uint16) for shape in kinds]
    places: dict[tuple[int, ...], list[tuple[int, tuple[int, ...], int]]] = {}
    for number, tensor in enumerate(tensors):
        for dims in dims_of(tensor.shape):
            for line, own in enumerate(lines(tensor, dims)):
                places.setdefault(own, []).append((number, dims, line))
    with pytest.MonkeyPatch.context() as patch, LineIndex() as index:
        patch.setattr(line_index, "_HELD_LINES", data.draw(st.sampled_from((1, 7, 1 << 20))))
        patch.setattr(line_index, "_BLOCK", data.draw(st.sampled_from((1, 3, 128))))
        patch.setattr(line_index, "_PLACES", 1000)
        for number, tensor in enumerate(tensors):
            index.add([number], tensor[None])
        asked = numbers.integers(0, 3, data.draw(shapes), dtype=numpy.uint16)
        for dims, hashes in line_hashes(asked, list(dims_of(asked.shape))).items():
            own = lines(asked, dims)
            hits = index.found(hashes, hash_of_zeros(len(own[0])))
            if any(line not in places and any(line) for line in own):
                assert hits is None
            else:
                expected = [sorted(places.get(line, [])) for line in own]
                assert hits is not None
                assert [sorted((hit.tensor, hit.dims, hit.line) for hit in one) for one in hits] == expected


def lines(tensor: Any, dims: tuple[int, ...]) -> list[tuple[int, ...]]:
    rest = [d for d in range(tensor.ndim) if d not in dims]
    moved = tensor.transpose(*dims, *rest).reshape(int(numpy.prod([tensor.shape[d] for d in dims])), -1)
    return [tuple(sorted(row.tolist())) for row in moved]


def test_many_tensors_are_hashed_as_one_by_one() -> None:
    tensors = numpy.random.default_rng(0).integers(0, 9, (5, 4, 3, 2), dtype=numpy.uint32)
    with LineIndex() as one, LineIndex() as other:
        one.add(range(5), tensors)
        for number, tensor in enumerate(tensors):
            other.add([number], tensor[None])
        for tensor in tensors:
            for hashes in line_hashes(tensor, list(dims_of(tensor.shape))).values():
                assert one.found(hashes, 0) == other.found(hashes, 0)
