"""What can go wrong on the way: at the final path there is always the old file or the complete new one."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import statex
from statex import StatexError
from statex.checkpoint import writer
from statex.checkpoint.atomic import renames
from statex.checkpoint.atomic.transaction import Transaction
from statex.checkpoint.blobs import output_file
from statex.checkpoint.io import reserve, writeback

RENAME = "rename prefix '' -> 'x.'"
STATEX = [sys.executable, "-m", "statex"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint of 40 MB, so that there is time to disturb its conversion."""
    path = tmp_path / "in.safetensors"
    save_file({f"k{number}": torch.full((1 << 18,), float(number)) for number in range(40)}, path)
    return path


def litter(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if ".statex-" in p.name]


def is_whole(path: Path, key: str) -> bool:
    """Say whether a file is a complete checkpoint that has this key."""
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    return key in state and all(t[0] == t[-1] for t in state.values())


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(source: Path, seed: int) -> None:
    target = source.with_name("out.pth")
    torch.save({"old": torch.ones(2)}, target)
    process = subprocess.Popen([*STATEX, "apply", "-q", "-e", RENAME, source, target, "--force"])
    time.sleep(random.Random(seed).uniform(0.2, 0.8))
    process.kill()
    process.wait()
    assert is_whole(target, "old") or is_whole(target, "x.k0")


def until_it_listens(process: subprocess.Popen[str]) -> None:
    """Wait until statex has its handlers: before that, it is Python or the system that a signal ends."""
    for _ in range(6000):
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGHUP - 1) & 1:  # the last one that is installed, and Python has none of its own
            return
        time.sleep(0.01)
    raise AssertionError("no handlers after a minute")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("wait", [0, 0.25, 0.55])
def test_signals_end_with_their_number_and_leave_nothing(source: Path, number: signal.Signals, wait: float) -> None:
    target = source.with_name("out.pth")
    process = subprocess.Popen(
        # Slow on purpose: each tensor is computed by torch.
        [*STATEX, "apply", "-q", "-e", "set ** = exp(it)\nset ** = flip(0)", source, target],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until_it_listens(process)
    time.sleep(wait)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if wait and process.returncode == 0:  # on a machine that is as quick as that
        assert is_whole(target, "k0")
        return
    assert process.returncode == 128 + number
    assert not target.exists()
    assert litter(source.parent) == []
    assert said == f"statex: stopped by {number.name}\n"


@pytest.mark.parametrize("outcome", ["raise ImportError('cannot load module more than once per process')", "pass"])
def test_a_signal_is_heard_whatever_the_code_it_meets_makes_of_it(source: Path, outcome: str) -> None:
    source.with_name("models.py").write_text(
        "import os, signal, torch\n"
        f"try:\n    os.kill(os.getpid(), signal.SIGTERM)\nexcept BaseException:\n    {outcome}\n"
        "class Model(torch.nn.Module):\n    pass\n"
    )
    done = subprocess.run(
        [*STATEX, "apply", "-q", "-e", "drop **", source, "out.pth", "--target", "models:Model"],
        cwd=source.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "statex: stopped by SIGTERM\n")


def test_a_signal_in_what_may_raise_nothing_is_heard_without_more_words(source: Path) -> None:
    source.with_name("models.py").write_text(
        "import os, signal, torch\n"
        "class Ending:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "Ending()\n"
        "class Model(torch.nn.Module):\n    pass\n"
    )
    done = subprocess.run(
        [*STATEX, "apply", "-q", "-e", "drop **", source, "out.pth", "--target", "models:Model"],
        cwd=source.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "statex: stopped by SIGTERM\n")
    assert not source.with_name("out.pth").exists()


@pytest.mark.parametrize("moment", ["atexit.register(end)", "torch.ending = Ending()"])
def test_a_signal_that_comes_after_all_is_done_changes_nothing(source: Path, moment: str) -> None:
    source.with_name("models.py").write_text(
        "import atexit, os, signal, torch\n"
        "def end(kill=os.kill, number=os.getpid(), sent=signal.SIGTERM):\n    kill(number, sent)\n"
        "class Ending:\n    def __del__(self, end=end):\n        end()\n"
        f"{moment}\n"
        "class Model(torch.nn.Module):\n    pass\n"
    )
    done = subprocess.run(
        [*STATEX, "apply", "-q", "-e", "drop **", source, "out.pth", "--target", "models:Model"],
        cwd=source.parent, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert source.with_name("out.pth").exists()


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 << 20, 10 << 20))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_disk_is_one_line(source: Path) -> None:
    target = source.with_name("out.pth")
    torch.save({"old": torch.ones(2)}, target)
    done = subprocess.run(
        [*STATEX, "apply", "-q", "-e", RENAME, source, target, "--force"],
        capture_output=True, text=True, preexec_fn=_limited,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.count("\n") <= 2
    assert "SX612" in done.stderr
    assert "out.pth" in done.stderr
    assert is_whole(target, "old")
    assert litter(source.parent) == []


def test_too_little_space_is_seen_before_anything_is_written(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(StatexError) as caught:
        statex.convert(source, source.with_name("out.pth"), statex.compile(RENAME))
    assert [d.code.id for d in caught.value.diagnostics] == ["SX615"]
    assert litter(source.parent) == []


@pytest.mark.parametrize("where", ["fsync", "fdatasync", "rename", "write", "copy_file_range"])
def test_errors_of_the_system_leave_the_old_file(source: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    target = source.with_name("out.pth")
    torch.save({"old": torch.ones(2)}, target)

    def fails(*arguments: Any, **named: Any) -> Any:
        raise OSError(5, "Input/output error")

    if where == "copy_file_range":  # data of safetensors begins at the same place in its page as before
        target = source.with_name("out.safetensors")
        save_file({"old": torch.ones(2)}, target)
    monkeypatch.setattr(writeback, "_STEP", 1 << 20)
    monkeypatch.setattr(os, "replace" if where == "rename" else where, fails)
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile(RENAME), force=True)
    monkeypatch.undo()
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    assert "Input/output error" in str(caught.value)
    assert is_whole(target, "old")
    assert litter(source.parent) == []


@pytest.mark.parametrize("missing", [("copy_file_range",), ("copy_file_range", "sendfile")])
def test_file_systems_that_cannot_copy_by_themselves(
    source: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    asked = []

    def without(name: str) -> Callable[..., Any]:
        def unsupported(*arguments: Any, **named: Any) -> Any:
            asked.append(name)
            raise OSError(95, "Operation not supported")

        return unsupported

    target = source.with_name("out.safetensors")
    for name in missing:
        monkeypatch.setattr(os, name, without(name))
    statex.convert(source, target, statex.compile(RENAME), verify_written=True)
    assert set(asked) == set(missing)
    assert torch.equal(load_file(target)["x.k39"], torch.full((1 << 18,), 39.0))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EOPNOTSUPP])
def test_a_disk_without_room_is_known_at_once(source: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    asked = []

    def fallocate(*arguments: Any) -> int:
        asked.append(arguments)
        ctypes.set_errno(code)
        return -1

    target = source.with_name("out.safetensors")
    monkeypatch.setattr(reserve, "_WORTH", 1 << 20)
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **named: type("libc", (), {"fallocate": fallocate}))
    if code == errno.EOPNOTSUPP:  # the file system does without
        statex.convert(source, target, statex.compile(RENAME))
        assert len(asked) == 1
        assert is_whole(target, "x.k0")
        return
    monkeypatch.setattr(os, "write", lambda *arguments: pytest.fail("nothing is to be written"))
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile(RENAME))
    assert [d.code.id for d in caught.value.diagnostics] == ["SX612"]
    assert os.strerror(code) in str(caught.value)
    assert litter(source.parent) == []


@pytest.mark.parametrize("how", ["cut", "touched", "replaced"])
@pytest.mark.parametrize("rules", [RENAME, "set ** = cast(bf16)", "set ** = exp(it)"])
def test_an_input_that_changes_meanwhile_is_noticed(
    source: Path, monkeypatch: pytest.MonkeyPatch, how: str, rules: str
) -> None:
    target = source.with_name("out.pth")
    flush = output_file.OutputFile.flush
    done = []

    def disturb(file: output_file.OutputFile) -> None:
        flush(file)
        if not done and file.position > 1 << 20:
            done.append(how)
            if how == "cut":
                os.truncate(source, 5 << 20)
            elif how == "touched":
                os.utime(source, (1, 1))
            else:
                # Who replaces a file leaves the opened one as it was: the result is that of the old input.
                save_file({"k0": torch.zeros(3)}, source.with_name("new"))
                os.replace(source.with_name("new"), source)

    monkeypatch.setattr(output_file.OutputFile, "flush", disturb)
    if how == "replaced":
        statex.convert(source, target, statex.compile(rules))
        assert done
        assert len(torch.load(target)) == 40
        return
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile(rules))
    assert done
    assert caught.value.diagnostics[0].code.id in ("SX609", "SX604")
    assert not target.exists()
    assert litter(source.parent) == []


def test_bytes_that_change_on_the_disk_are_noticed_when_asked(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = source.with_name("out.pth")
    finish = output_file.OutputFile.finish

    def spoil(file: output_file.OutputFile) -> None:
        finish(file)
        with file.path.open("r+b") as opened:
            opened.seek(10 << 20)
            opened.write(b"spoilt")

    monkeypatch.setattr(output_file.OutputFile, "finish", spoil)
    with pytest.raises(StatexError) as caught:
        statex.convert(source, target, statex.compile(RENAME), verify_written=True)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX617"]
    assert not target.exists()


def test_an_output_may_replace_its_input(source: Path) -> None:
    hard, soft = source.with_name("hard.safetensors"), source.with_name("soft.safetensors")
    os.link(source, hard)
    soft.symlink_to(source.name)
    rules = statex.compile(RENAME)
    for name in (source, hard, soft):
        with pytest.raises(StatexError) as caught:
            statex.convert(source, name, rules)
        assert [d.code.id for d in caught.value.diagnostics] == ["SX611"]
    statex.convert(source, source, rules, force=True)
    assert "x.k0" in statex.read_header(source).entries
    assert "k0" in statex.read_header(hard).entries
    statex.convert(source, soft, rules, force=True)
    assert soft.is_symlink()
    assert "x.x.k0" in statex.read_header(source).entries


def test_modes_follow_the_umask_or_the_file_replaced(source: Path) -> None:
    target = source.with_name("out.pth")
    old = os.umask(0o027)
    try:
        statex.convert(source, target, statex.compile(RENAME))
        assert target.stat().st_mode & 0o777 == 0o640
        target.chmod(0o604)
        statex.convert(source, target, statex.compile(RENAME), force=True)
        assert target.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(old)


def test_a_folder_is_replaced_as_a_whole_and_only_if_nothing_else_is_lost(source: Path) -> None:
    folder = source.with_name("set")
    rules = statex.compile(RENAME)
    statex.convert(source, f"{folder}/", rules, shard_size=10 << 20)
    assert len(list(folder.glob("*.safetensors"))) == 4
    with pytest.raises(StatexError) as caught:
        statex.convert(source, f"{folder}/", rules)
    assert [d.code.id for d in caught.value.diagnostics] == ["SX610"]
    statex.convert(source, f"{folder}/", rules, force=True)
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StatexError) as caught:
        statex.convert(source, f"{folder}/", rules, force=True)
    assert "notes.txt" in str(caught.value)
    assert sorted(p.name for p in folder.iterdir()) == ["model.safetensors", "notes.txt"]
    assert litter(source.parent) == []


def test_other_files_of_a_folder_are_taken_along_when_asked(source: Path) -> None:
    folder = source.with_name("model")
    folder.mkdir()
    os.rename(source, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"\0\1")
    (folder / "pytorch_model.bin").write_bytes(b"old weights")
    rules = statex.compile(RENAME)
    statex.convert(folder, source.with_name("plain"), rules)
    assert [p.name for p in source.with_name("plain").iterdir()] == ["model.safetensors"]
    statex.convert(folder, source.with_name("full"), rules, copy_files=True)
    found = sorted(p.name for p in source.with_name("full").iterdir())
    assert found == ["config.json", "model.safetensors", "tokenizer.model"]
    assert (source.with_name("full") / "tokenizer.model").read_bytes() == b"\0\1"


def said(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(StatexError) as caught:
        call()
    (only,) = caught.value.diagnostics
    return only.code.id, str(caught.value)


@pytest.mark.parametrize("other", ["optimizer.pt", "second.safetensors", "rng_state.pth", "nested.bin/"])
def test_weights_that_are_no_part_of_a_set_are_not_lost(
    source: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    folder = source.with_name("set")
    rules = statex.compile(RENAME)
    statex.convert(source, f"{folder}/", rules, shard_size=10 << 20)
    (folder / other).mkdir() if other.endswith("/") else (folder / other).write_bytes(b"mine")
    before = sorted(p.name for p in folder.iterdir())
    # It is seen before anything is computed.
    monkeypatch.setattr(output_file.OutputFile, "write", None)
    code, text = said(lambda: statex.convert(source, f"{folder}/", rules, force=True))
    assert code == "SX610"
    assert other.rstrip("/") in text
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_folder_keeps_its_mode(source: Path) -> None:
    folder = source.with_name("set")
    statex.convert(source, f"{folder}/", statex.compile(RENAME))
    folder.chmod(0o2750)
    statex.convert(source, f"{folder}/", statex.compile(RENAME), force=True)
    assert folder.stat().st_mode & 0o7777 == 0o2750


def test_names_of_outputs(source: Path) -> None:
    """As long as names may be, longer, and of bytes that are no text."""
    rules = statex.compile("keep k0")
    long = source.with_name("ä" * 125 + ".pth")
    statex.convert(source, long, rules)
    assert torch.load(long).keys() == {"k0"}
    statex.convert(source, f"{source.parent}/{'y' * 255}/", rules)
    raw = source.with_name(os.fsdecode(b"\xff.pth"))
    statex.convert(source, raw, rules)
    with raw.open("rb") as file:
        assert torch.load(file).keys() == {"k0"}
    assert said(lambda: statex.convert(source, source.with_name("x" * 252 + ".pth"), rules))[0] == "SX612"
    assert said(lambda: statex.convert(source.with_name("x" * 300 + ".pth"), raw, rules, force=True))[0] == "SX601"
    assert said(lambda: statex.convert(source.with_name("no") / "in.index.json", f"{raw}/", rules))[0] == "SX601"
    assert said(lambda: statex.convert(source, "/", rules, force=True))[0] == "SX612"
    assert litter(source.parent) == []


def test_file_systems_without_hard_links(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*names: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    target = source.with_name("out.pth")
    rules = statex.compile(RENAME)
    for renameat2 in (renames.renameat2, lambda *arguments: errno.ENOSYS):
        monkeypatch.setattr(renames, "renameat2", renameat2)
        statex.convert(source, target, rules)
        assert is_whole(target, "x.k0")

        # It is not replaced where it appears while another is written.
        target.unlink()
        with Transaction(alone=True) as outputs:
            outputs.stage_bytes(target, b"early", force=False)
            target.write_bytes(b"late")
            assert said(outputs.commit)[0] == "SX610"
        assert target.read_bytes() == b"late"
        target.unlink()
    assert litter(source.parent) == []


def test_a_signal_while_the_old_folder_is_removed_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = source.with_name("set")
    rules = statex.compile(RENAME)
    statex.convert(source, f"{folder}/", rules, shard_size=10 << 20)
    rmtree = shutil.rmtree

    def interrupted(path: Path, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        statex.convert(source, f"{folder}/", rules, force=True)
    assert litter(source.parent) == []
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]


def test_everything_is_checked_when_asked_also_what_is_dropped(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save({"a": torch.ones(3), "b": torch.arange(1000.0)}, source)
    data = bytearray(source.read_bytes())
    data[data.index(torch.arange(1000.0).numpy().tobytes()) + 9] ^= 1
    source.write_bytes(data)
    for rules in ("drop b", "set b = zeros_like", "set b = it[:2]"):
        code, _ = said(lambda rules=rules: statex.convert(source, target, statex.compile(rules), check_input=True))  # type: ignore[misc]
        assert code == "SX604"
        assert list(tmp_path.iterdir()) == [source]


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_written_bytes_of_odd_tensors_are_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    odd = torch.quantize_per_tensor(torch.randn(1000), 0.1, 0, torch.qint8)
    torch.save({"odd": odd, "sparse": torch.eye(20).to_sparse(), "plain": torch.ones(3)}, source)
    rules = statex.compile("rename plain -> p")
    statex.convert(source, target, rules, verify_written=True)
    write = writer.write_file

    def damaged(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        data = bytearray(path.read_bytes())
        data[data.index(b"out/data/0") + 500] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(writer, "write_file", damaged)
    assert said(lambda: statex.convert(source, target, rules, verify_written=True, force=True))[0] == "SX617"


@pytest.mark.parametrize("output", ["out.pth", "out.safetensors"])
def test_every_byte_that_was_written_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    source, target = tmp_path / "in.pth", tmp_path / output
    torch.save({"a": torch.arange(30.0), "b": torch.ones(7, dtype=torch.bfloat16)}, source)
    rules = statex.compile("set a = it * 2")
    statex.convert(source, target, rules, verify_written=True)
    places = range(3, target.stat().st_size, 19)
    upcoming = iter(places)
    write = writer.write_file

    def damaged(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        data = bytearray(path.read_bytes())
        data[next(upcoming)] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(writer, "write_file", damaged)
    for _ in places:
        with pytest.raises(StatexError):
            statex.convert(source, target, rules, verify_written=True, force=True)
    assert next(upcoming, None) is None
