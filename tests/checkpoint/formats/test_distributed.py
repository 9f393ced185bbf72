"""Folders of torch.distributed.checkpoint, against torch's own saving and loading."""

from __future__ import annotations

import _codecs
import codecs
import datetime
import errno
import io
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

import statex
from statex import StatexError
from statex.checkpoint.formats.dcp.folder import DistributedReader

ALONE: dict[str, Any] = {"no_dist": True} if "no_dist" in signature(dcp.save).parameters else {}
"""That there is one process: torch 2.6 sees it by itself."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.distributed is"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
]


def content() -> dict[str, Any]:
    return {
        "model": {
            "layer.weight": torch.randn(4, 6),
            "layer.bias": torch.randn(6).bfloat16(),
            "steps": torch.tensor(7),
            "none": torch.zeros(0, 3),
        }
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder saved by torch."""
    dcp.save(content() | {"epoch": 3}, checkpoint_id=tmp_path / "in", **ALONE)
    return tmp_path / "in"


def test_tensors_come_out_as_torch_loads_them(folder: Path) -> None:
    target = folder.with_name("out.pth")
    statex.convert(folder, target, statex.compile("root 'model' -> ''\nset layer.weight = transpose"))
    wanted = {"model": {k: torch.empty_like(v) for k, v in content()["model"].items()}}
    dcp.load(wanted, checkpoint_id=folder, **ALONE)
    found = torch.load(target)
    assert set(found) == set(wanted["model"])
    for key, tensor in wanted["model"].items():
        assert torch.equal(found[key], tensor.T if key == "layer.weight" else tensor)


def test_torch_loads_what_is_written(folder: Path) -> None:
    state = content()
    torch.save(state, folder.with_name("in.pth"))
    target = folder.with_name("out")
    rules = statex.compile("rename layer.weight -> w\nset layer.bias = it * 2")
    statex.convert(folder.with_name("in.pth"), target, rules, format="dcp")
    wanted = {"model": {"w": torch.empty(4, 6), "layer.bias": torch.empty(6).bfloat16(), "steps": torch.tensor(0)}}
    dcp.load(wanted, checkpoint_id=target, **ALONE)
    assert torch.equal(wanted["model"]["w"], state["model"]["layer.weight"])
    assert torch.equal(wanted["model"]["layer.bias"], state["model"]["layer.bias"] * 2)
    assert wanted["model"]["steps"].item() == 7
    assert sorted(p.name for p in target.parent.iterdir()) == ["in", "in.pth", "out"]


class Schedule:
    """What a trainer keeps of its own."""

    def __init__(self, step: int) -> None:
        self.step = step


def trainer(folder: Path) -> Path:
    """A folder as torchtitan writes it: the model's tensors by key, numbers and objects beside them."""
    state = {
        "model": {"w": torch.randn(3, 4), "b": torch.randn(4)},
        "optimizer": {
            "state.w.exp_avg": torch.randn(3, 4), "param_groups.w.lr": 0.1, "param_groups.w.betas": (0.9, 0.99),
        },
        "lr_scheduler": Schedule(7),
        "train_state": {"step": torch.tensor(7), "seen": [1, "two", None], "at": datetime.date(2024, 5, 6)},
    }  # fmt: skip
    dcp.save(state, checkpoint_id=folder, **ALONE)
    return folder


def loaded(folder: Path) -> dict[str, Any]:
    """Return what torch loads of such a folder."""
    state: dict[str, Any] = {
        "model": {"w": torch.zeros(3, 4), "b": torch.zeros(4)},
        "optimizer": {"state.w.exp_avg": torch.zeros(3, 4), "param_groups.w.lr": 0.0, "param_groups.w.betas": ()},
        "lr_scheduler": None,
        "train_state": {"step": torch.tensor(0), "seen": None, "at": None},
    }
    dcp.load(state, checkpoint_id=folder, **ALONE)
    return state


def test_pickled_values_are_values(tmp_path: Path) -> None:
    folder = trainer(tmp_path / "in")
    header = statex.read_header(folder, root="model")
    assert header.values["optimizer.param_groups.w.lr"] == 0.1
    assert header.values["train_state.seen"] == [1, "two", None]
    statex.convert(folder, tmp_path / "model.safetensors", "root 'model' -> ''")
    with pytest.raises(StatexError, match=r"drop value\('lr_scheduler'\)") as caught:
        statex.convert(folder, tmp_path / "out.pth", "rename w -> v", root="model")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX640"]


@pytest.mark.parametrize("middle", ["out", "out.pth"])
def test_pickled_values_are_carried(tmp_path: Path, middle: str) -> None:
    folder = trainer(tmp_path / "in")
    how: dict[str, Any] = {"keep_foreign": True, "root": "model", "verify_written": True}
    statex.convert(folder, tmp_path / middle, "rename w -> v", format="dcp" if middle == "out" else None, **how)
    statex.convert(tmp_path / middle, tmp_path / "back", "rename v -> w; set b = it * 2", format="dcp", **how)
    found, wanted = loaded(tmp_path / "back"), loaded(folder)
    assert torch.equal(found["model"]["w"], wanted["model"]["w"])
    assert torch.equal(found["model"]["b"], wanted["model"]["b"] * 2)
    assert torch.equal(found["optimizer"]["state.w.exp_avg"], wanted["optimizer"]["state.w.exp_avg"])
    assert found["optimizer"]["param_groups.w.lr"] == 0.1
    assert found["optimizer"]["param_groups.w.betas"] == (0.9, 0.99)
    assert (type(found["lr_scheduler"]), found["lr_scheduler"].step) == (Schedule, 7)
    assert found["train_state"]["seen"] == [1, "two", None]
    assert found["train_state"]["at"] == datetime.date(2024, 5, 6)
    assert found["train_state"]["step"].item() == 7


def test_tensors_in_values_are_carried_and_compared(tmp_path: Path) -> None:
    """Torch pickles tuples and objects whole, with the tensors in them."""
    schedule = Schedule(3)
    schedule.mean = torch.full((4,), 2.0)  # type: ignore[attr-defined]
    around = {"pair": (torch.arange(3.0), 1), "sparse": torch.eye(3).to_sparse(), "o": schedule}
    torch.save({"model": {"w": torch.ones(2)}, "around": around}, tmp_path / "in.pth")
    how: dict[str, Any] = {"keep_foreign": True, "root": "model", "verify_written": True}
    statex.convert(tmp_path / "in.pth", tmp_path / "mid", "", format="dcp", **how)
    statex.convert(tmp_path / "mid", tmp_path / "out.pth", "rename w -> v", **how)
    found = torch.load(tmp_path / "out.pth", weights_only=False)["around"]
    assert torch.equal(found["pair"][0], torch.arange(3.0))
    assert torch.equal(found["sparse"].to_dense(), torch.eye(3))
    assert torch.equal(found["o"].mean, torch.full((4,), 2.0))


def test_nothing_pickled_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    dcp.save({"w": torch.ones(2), "evil": Evil()}, checkpoint_id=tmp_path / "in", **ALONE)
    assert not marker.exists()
    found = statex.compile("").apply(tmp_path / "in")["evil"]
    assert found.name in ("posix.system", "os.system")
    statex.convert(tmp_path / "in", tmp_path / "out", "rename w -> v", format="dcp", keep_foreign=True)
    statex.convert(tmp_path / "out", tmp_path / "out.pth", "", keep_foreign=True)
    assert not marker.exists()


def test_a_damaged_value_is_named(tmp_path: Path) -> None:
    folder = trainer(tmp_path / "in")
    data = next(folder.glob("*.distcp"))
    whole = data.read_bytes()
    at = whole.index(b"Schedule")
    data.write_bytes(whole[:at] + b"X" + whole[at + 1 :])
    with pytest.raises(StatexError, match="checksum") as caught:
        statex.read_header(folder, root="model")
    assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]


def test_a_header_that_names_code_is_refused(folder: Path) -> None:
    marker = folder / "marker"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {marker}",)

    (folder / ".metadata").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(StatexError) as caught:
        statex.read_header(folder)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX603"]
    assert not marker.exists()
    for broken in (b"", b"\x80\x04N.", b"\x80\x04}."):
        (folder / ".metadata").write_bytes(broken)
        with pytest.raises(StatexError) as caught:
            statex.read_header(folder)
        assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]


def test_what_is_written_is_compared_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = torch.nn.Linear(3, 4).state_dict() | {"turned": torch.randn(3, 4).t(), "none": torch.zeros(0, 2)}
    source, target = folder.with_name("in.pth"), folder.with_name("out")
    torch.save(state, source)
    rules = statex.compile("set bias = it * 2")
    statex.convert(source, target, rules, format="dcp", verify_written=True)
    statex.convert(target, folder.with_name("again.pth"), rules, verify_written=True)
    load = DistributedReader.load
    monkeypatch.setattr(DistributedReader, "load", lambda reader, info: load(reader, info) + 1)
    with pytest.raises(StatexError, match="not those that were written"):
        statex.convert(source, target, rules, format="dcp", verify_written=True, force=True)


def test_sparse_tensors_are_pickled_values(folder: Path) -> None:
    source, target = folder.with_name("odd.pth"), folder.with_name("odd")
    torch.save({"a": torch.arange(3.0), "s": torch.eye(3).to_sparse(), "z": torch.arange(4)}, source)
    statex.convert(source, target, statex.compile("rename a -> b"), format="dcp", verify_written=True)
    assert set(statex.read_header(target).entries) == {"b", "s", "z"}


def test_what_stands_around_the_state_is_kept(folder: Path) -> None:
    folder = folder.with_name("nested")
    state = {"model": {"w": torch.ones(2)}, "optim": {"m": torch.full((3,), 2.0)}}
    dcp.save(state, checkpoint_id=folder, **ALONE)
    target = folder.with_name("out.pth")
    statex.convert(folder, target, statex.compile("rename w -> v"), root="model", verify_written=True)
    found = torch.load(target)
    assert torch.equal(found["model"]["v"], torch.ones(2))
    assert torch.equal(found["optim"]["m"], torch.full((3,), 2.0))


def test_lists_come_back_as_lists(folder: Path) -> None:
    folder = folder.with_name("nested")
    state = {"ema": {"shadow": [torch.ones(2), {"w": torch.zeros(3)}]}, "by": {0: torch.ones(1)}, "w": torch.ones(4)}
    dcp.save(state, checkpoint_id=folder, **ALONE)
    again, target = folder.with_name("again"), folder.with_name("out.pth")
    statex.convert(folder, again, "root ''\nset ema.shadow.0 = it * 2", format="dcp", verify_written=True)
    statex.convert(again, target, "root ''", verify_written=True)
    found = torch.load(target)
    assert [type(one) for one in found["ema"]["shadow"]] == [torch.Tensor, dict]
    assert found["ema"]["shadow"][0].tolist() == [2, 2]
    wanted: dict[str, Any] = {"ema": {"shadow": [torch.empty(2), {"w": torch.empty(3)}]}, "by": {0: torch.empty(1)}}
    dcp.load(wanted, checkpoint_id=again, **ALONE)
    assert torch.equal(wanted["ema"]["shadow"][0], found["ema"]["shadow"][0])
    assert torch.equal(wanted["by"][0], torch.ones(1))


def test_damage_is_one_line(folder: Path) -> None:
    for data in folder.glob("*.distcp"):
        data.unlink()
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, folder.with_name("out.pth"), statex.compile("root 'model' -> ''"))
    (only,) = caught.value.diagnostics
    assert only.code.id == "SX604"
    assert "\n" not in only.headline


def test_what_stops_torch_at_its_writing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch wraps whatever happens inside; nothing is left behind, and the old folder stays."""
    source, target = folder.with_name("in.pth"), folder.with_name("out")
    torch.save({"w": torch.randn(300, 300)}, source)
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    folder.with_name("bad.pth").write_bytes(data)
    statex.convert(source, target, statex.compile(""), format="dcp")
    with pytest.raises(StatexError) as caught:
        statex.convert(folder.with_name("bad.pth"), target, statex.compile(""), format="dcp", force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StatexError, match="No space left") as caught:
        statex.convert(source, target, statex.compile(""), format="dcp", force=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    monkeypatch.undo()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["bad.pth", "in", "in.pth", "out"]
    assert list(statex.read_header(target).entries) == ["w"]


def header_of(folder: Path) -> Any:
    return pickle.loads((folder / ".metadata").read_bytes())


class Turned(str):
    """A text that a codec makes when it is unpickled: to a reader that calls nothing it is no text at all."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return _codecs.encode, (codecs.encode(str(self), "rot13"), "rot13")


class Evil:
    """What leaves a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


class Pairs:
    """A dict that is pickled with one key twice."""

    def __init__(self, *pairs: tuple[Any, Any]) -> None:
        self.pairs = pairs


class PairsPickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Pickles `Pairs`."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_pairs(self, value: Pairs) -> None:
        self.write(pickle.EMPTY_DICT)
        self.memoize(value)
        self.write(pickle.MARK)
        for pair in value.pairs:
            self.save(pair[0])
            self.save(pair[1])
        self.write(pickle.SETITEMS)

    dispatch[Pairs] = save_pairs


def test_a_pickled_value_in_the_guise_of_a_tensor_is_not_unpickled(tmp_path: Path) -> None:
    """To torch the second key is the first one, and the tensor a value to be unpickled without limits."""
    folder, marker = tmp_path / "in", tmp_path / "marker"
    dcp.save({"model": {"w": torch.ones(3)}, "junk": Evil(marker)}, checkpoint_id=folder, **ALONE)
    header = header_of(folder)
    entries, key = header.state_dict_metadata, Turned("model.w")
    header.storage_data[MetadataIndex("model.w", None)] = header.storage_data[MetadataIndex("junk")]
    header.state_dict_metadata = Pairs(("model.w", entries["model.w"]), (key, entries["junk"]))
    header.planner_data = Pairs(("model.w", ("model", "w")), (key, ("other", "x")))
    buffer = io.BytesIO()
    PairsPickler(buffer, 2).dump(header)
    (folder / ".metadata").write_bytes(buffer.getvalue())
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, tmp_path / "out.pth", statex.compile("root 'model' -> ''"))
    assert [d.code.id for d in caught.value.diagnostics] == ["SX604"]
    assert not marker.exists()


INDEX = MetadataIndex("model.layer.weight", torch.Size([0, 0]))


def _chunks(*boxes: tuple[tuple[int, int], tuple[int, int]]) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        header.state_dict_metadata["model.layer.weight"].chunks = [
            ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in boxes
        ]
        place = header.storage_data[INDEX]
        header.storage_data |= {MetadataIndex(INDEX.fqn, torch.Size(offsets)): place for offsets, _ in boxes}

    return change


def _place(**fields: Any) -> Callable[[Any], None]:
    return lambda header: vars(header.storage_data[INDEX]).update(fields)


def _dtype(header: Any) -> None:
    header.state_dict_metadata["model.layer.weight"].properties.dtype = torch.int32


def _nowhere(header: Any) -> None:
    del header.storage_data[INDEX]


def _swapped(header: Any) -> None:
    header.storage_data[INDEX] = header.storage_data[MetadataIndex("model.layer.bias", torch.Size([0]))]


def _same_path(header: Any) -> None:
    header.planner_data["model.layer.bias"] = header.planner_data["model.layer.weight"]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_chunks(), "SX604", "not all of it"),
        (_chunks(((0, 0), (3, 6))), "SX604", "not all of it"),
        (_chunks(((0, 0), (4, 5)), ((3, 0), (1, 4))), "SX604", "overlap"),
        (_chunks(((0, 0), (2, 6)), ((3, 0), (2, 6))), "SX604", "outside"),
        (_chunks(((0, 0), (4, 6)), ((0, 0), (4, 6))), "SX604", "not all of it"),
        (_dtype, "SX604", "should be i32[4, 6] there, and is f32[4, 6]"),
        (_nowhere, "SX604", "nowhere"),
        (_swapped, "SX604", ""),
        (_same_path, "SX604", "another entry"),
        (_place(offset=-1), "SX604", "bytes"),
        (_place(length=1 << 60), "SX604", "bytes"),
        (_place(offset=1 << 62), "SX604", "bytes"),
        (_place(length=10), "SX604", "too few"),
        (_place(relative_path="../outside"), "SX603", "not in its own folder"),
        (_place(relative_path="/dev/zero"), "SX603", "not in its own folder"),
        (_place(relative_path="link"), "SX602", "is not a regular file"),
        (_place(relative_path="fifo"), "SX602", "is not a regular file"),
        (_place(relative_path="none"), "SX604", "missing"),
        (_place(relative_path=5), "SX604", "no place"),
        (_place(transform_descriptors=["stream.zstd"]), "SX604", "transformed"),
    ],
    ids=range(20),
)
def test_headers_that_lie(folder: Path, change: Callable[[Any], None], code: str, words: str) -> None:
    (folder / "link").symlink_to("/dev/zero")
    os.mkfifo(folder / "fifo")
    header = header_of(folder)
    change(header)
    (folder / ".metadata").write_bytes(pickle.dumps(header))
    with pytest.raises(StatexError) as caught:
        statex.convert(folder, folder.with_name("out.pth"), statex.compile("root 'model' -> ''"))
    assert [d.code.id for d in caught.value.diagnostics] == [code]
    assert words in str(caught.value)
    assert not folder.with_name("out.pth").exists()


def test_a_tensor_in_pieces(folder: Path) -> None:
    """As several ranks save it: each has a part, and some have none of it."""
    whole = torch.randn(4, 6)
    header = header_of(folder)
    boxes = [((0, 0), (2, 4)), ((0, 4), (2, 2)), ((2, 0), (2, 6)), ((4, 0), (0, 6))]
    _chunks(*boxes)(header)
    for number, ((row, column), (rows, columns)) in enumerate(boxes):
        name = f"__{number + 1}_0.distcp"
        torch.save(whole[row : row + rows, column : column + columns].clone(), folder / name)
        place = type(header.storage_data[INDEX])(name, 0, (folder / name).stat().st_size)
        header.storage_data[MetadataIndex(INDEX.fqn, torch.Size([row, column]))] = place
    (folder / ".metadata").write_bytes(pickle.dumps(header))
    statex.convert(folder, folder.with_name("out.pth"), statex.compile("root 'model' -> ''"))
    assert torch.equal(torch.load(folder.with_name("out.pth"))["layer.weight"], whole)


def test_a_signal_in_torchs_writer_is_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedByTestError(BaseException):
        """What a signal raises."""

    class Interrupted:
        """A file whose third write is met by a signal."""

        def __init__(self, file: Any) -> None:
            self.file = file
            self.count = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: Any) -> Any:
            self.count += 1
            if self.count == 3:
                raise StoppedByTestError
            return self.file.write(data)

    real = FileSystem.create_stream

    @contextmanager
    def stream(self: Any, *arguments: Any) -> Iterator[Any]:
        with real(self, *arguments) as file:
            yield Interrupted(file) if "w" in arguments[-1] else file

    torch.save({f"w{n}": torch.ones(100) for n in range(4)}, tmp_path / "in.pth")
    monkeypatch.setattr(FileSystem, "create_stream", stream)
    with pytest.raises(StoppedByTestError):
        statex.convert(tmp_path / "in.pth", tmp_path / "out", statex.compile(""), format="dcp")
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]
