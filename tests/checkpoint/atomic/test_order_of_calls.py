"""What is asked of the system when outputs appear, and in which order: what has a name has reached the disk before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from statex.checkpoint import Options, arrange, open_checkpoint
from statex.checkpoint.atomic import renames
from statex.checkpoint.atomic.transaction import Transaction
from statex.checkpoint.formats.safetensors.format import SAFETENSORS
from statex.checkpoint.writer import stage_checkpoint, write_checkpoint


class Calls:
    """Calls of the system, with the random parts of names left out."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.seen: list[str] = []
        for name in ("link", "rename", "replace", "unlink"):
            self._watch(monkeypatch, os, name, 2 if name != "unlink" else 1)
        self._watch(monkeypatch, renames, "renameat2", 2)
        for name in ("fsync", "fdatasync"):
            call = getattr(os, name)
            monkeypatch.setattr(os, name, lambda fd, call=call: (self._see("sync", [_path(fd)]), call(fd))[1])

    def _watch(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, paths: int) -> None:
        call = getattr(module, name)

        def watched(*arguments: Any, **named: Any) -> Any:
            if "dir_fd" not in named:
                self._see(name, arguments[:paths])
            return call(*arguments, **named)

        monkeypatch.setattr(module, name, watched)

    def _see(self, name: str, paths: Any) -> None:
        self.seen.append(" ".join([name, *(self._short(path) for path in paths)]))

    def _short(self, path: str | os.PathLike[str]) -> str:
        name = os.path.relpath(path, self.folder)
        return ".".join(part if len(part) != 8 or not part.isalnum() else "#" for part in name.split("."))


def _path(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@pytest.fixture
def tree(tmp_path: Path) -> Any:
    (tmp_path / "in").mkdir()
    save_file({"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "in" / "in.safetensors")
    with open_checkpoint(tmp_path / "in" / "in.safetensors") as reader:
        yield arrange(reader.tree, Options(SAFETENSORS))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.parametrize("force", [False, True])
def test_a_file(tree: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, force: bool) -> None:
    calls = Calls(folder, monkeypatch)
    write_checkpoint(folder / "a.safetensors", tree, Options(SAFETENSORS, force=force))
    temporary = ".a.safetensors.#.statex-tmp"
    renamed = (
        [f"replace {temporary} a.safetensors"] if force else [f"link {temporary} a.safetensors", f"unlink {temporary}"]
    )
    assert calls.seen == [f"sync {temporary}", *renamed, "sync ."]


def test_a_folder(tree: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(folder, monkeypatch)
    write_checkpoint(folder / "set", tree, Options(SAFETENSORS, folder=True, shard_size=10))
    index = "model.safetensors.index.json"
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", index]
    temporary = ".set.#.statex-tmp"
    written = [f"sync {temporary}/{name}" for name in names]
    assert calls.seen == [*written, f"sync {temporary}", f"replace {temporary} set", "sync ."]


def test_a_folder_that_is_replaced(tree: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(SAFETENSORS, folder=True, force=True)
    write_checkpoint(folder / "set", tree, options)
    calls = Calls(folder, monkeypatch)
    write_checkpoint(folder / "set", tree, options)
    temporary = ".set.#.statex-tmp"
    assert calls.seen == [
        f"sync {temporary}/model.safetensors",
        f"sync {temporary}",
        "sync .set.statex-journal",  # which output it is of
        "sync .set.statex-journal",  # all that is renamed
        "sync .",
        f"renameat2 {temporary} set",
        "sync .",
        "sync .",
        "unlink .set.statex-journal",
        "sync .",
    ]


def test_two_outputs(tree: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "x.safetensors").write_bytes(b"old")
    calls = Calls(folder, monkeypatch)
    with Transaction() as outputs:
        options = Options(SAFETENSORS, force=True)
        stage_checkpoint(outputs, folder / "a" / "x.safetensors", SAFETENSORS.layout(tree, options), options)
        outputs.stage_bytes(folder / "report.json", b"{}", force=False)
        outputs.commit()
    one, two = "a/.x.safetensors.#.statex-tmp", ".report.json.#.statex-tmp"
    journals = ["a/.x.safetensors.statex-journal", ".report.json.statex-journal"]
    assert calls.seen == [
        f"sync {journals[0]}",
        f"sync {one}",
        f"sync {journals[1]}",
        f"sync {two}",
        # Both lists are on the disk before anything has its name.
        f"sync {journals[0]}",
        "sync a",
        f"sync {journals[1]}",
        "sync .",
        f"renameat2 {one} a/x.safetensors",
        "sync a",
        f"link {two} report.json",
        f"unlink {two}",
        "sync .",
        # Both names are on the disk before what they replace goes, and that before the journals.
        f"unlink {one}",
        "sync a",
        "sync .",
        f"unlink {journals[0]}",
        f"unlink {journals[1]}",
        "sync a",
        "sync .",
    ]
