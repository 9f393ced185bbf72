"""`statex fmt`: which files it formats, what it says, and when it writes nothing."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statex.cli.commands import fmt as command
from statex.grammar import formatter
from statex.grammar.rulefiles import LARGEST
from tests.cli.conftest import Run

ODD = "drop   a # x\nset?b=1\n"
RIGHT = "drop a  # x\nset? b = 1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("odd.sx", "right.sx", "sub/odd.sx", ".hidden/odd.sx", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(RIGHT if name == "right.sx" else ODD)
    return tmp_path


def test_files_and_folders(run: Run, folder: Path) -> None:
    ended = run("fmt", "sub", "odd.sx", "right.sx", "./odd.sx")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "formatted sub/odd.sx",
        "formatted odd.sx",
        "2 files formatted, 1 file left as it is",
    ]
    assert (folder / "odd.sx").read_text() == (folder / "sub/odd.sx").read_text() == RIGHT
    assert sorted(path.name for path in folder.iterdir() if "odd" in path.name) == ["odd.sx"]


def test_a_folder_means_its_rule_files(run: Run, folder: Path) -> None:
    assert run("fmt", "-q", ".").out == ""
    assert (folder / "sub/odd.sx").read_text() == RIGHT
    assert (folder / ".hidden/odd.sx").read_text() == (folder / "x.txt").read_text() == ODD
    assert run("fmt", ".").out == "3 files left as they are\n"


def test_a_file_that_is_named_need_not_be_called_so(run: Run, folder: Path) -> None:
    assert run("fmt", "x.txt", ".hidden").exit_code == 0
    assert (folder / ".hidden/odd.sx").read_text() == (folder / "x.txt").read_text() == RIGHT


def test_check_writes_nothing(run: Run, folder: Path) -> None:
    ended = run("fmt", "--check", "odd.sx", "right.sx")
    assert ended.exit_code == 1
    assert ended.out.splitlines() == ["would format odd.sx", "1 file would be formatted, 1 file left as it is"]
    assert (folder / "odd.sx").read_text() == ODD
    ended = run("fmt", "--check", "right.sx")
    assert (ended.exit_code, ended.out) == (0, "1 file left as it is\n")


def test_diff(run: Run, folder: Path) -> None:
    ended = run("fmt", "--diff", "odd.sx")
    assert ended.exit_code == 1
    assert ended.out == (
        "--- odd.sx\n+++ odd.sx\n@@ -1,2 +1,2 @@\n-drop   a # x\n-set?b=1\n+drop a  # x\n+set? b = 1\n"
    )
    assert ended.err == "1 file would be formatted, 0 files left as they are\n"
    assert (folder / "odd.sx").read_text() == ODD
    (folder / "odd.sx").write_text("drop a")
    lines = run("fmt", "--diff", "-q", "odd.sx").out.splitlines()
    assert lines[3:] == ["-drop a", "\\ No newline at end of file", "+drop a"]
    assert run("fmt", "--diff", "right.sx").exit_code == 0


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no `patch`")
def test_patch_takes_the_difference(run: Run, folder: Path) -> None:
    odd = "drop   a # \u2028 \f \x85 x\nset?b=1\n# c\n drop  d"
    (folder / "sub/a b.sx").write_bytes(odd.encode())
    (folder / "sub/lines.sx").write_bytes(b"drop   a\r\nset?b=1")
    changes = run("fmt", "--diff", "-q", "sub").out
    patch = ["patch", "-p0", "--binary", "-d", str(folder)]
    subprocess.run(patch, input=changes.encode(), check=True, capture_output=True)
    assert run("fmt", "--check", "sub").out == "3 files left as they are\n"
    assert "\u2028 \f \x85 x\n" in (folder / "sub/a b.sx").read_bytes().decode()


def test_json(run: Run, folder: Path) -> None:
    ended = run("fmt", "--check", "--json", "odd.sx", "right.sx")
    assert (ended.exit_code, ended.json) == (1, {"ok": False, "changed": ["odd.sx"], "unchanged": 1})
    assert run("fmt", "--json", "odd.sx", "right.sx").json == {"ok": True, "changed": ["odd.sx"], "unchanged": 1}


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ODD.encode())))


def test_standard_input_that_is_too_large_is_refused_as_a_file_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    large = "# x\n" * (1 + LARGEST // 4)
    Path("large.sx").write_text(large)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(large.encode())))
    found = [run("fmt", "-"), run("fmt", "large.sx")]
    assert [one.exit_code for one in found] == [3, 3]
    assert [one.out for one in found] == ["", ""]
    assert [one.err.partition("\n")[0] for one in found] == [
        f"error[SX222]: `{name}` is too large to be a rule file: it has more than 2.0 MiB"
        for name in ("<stdin>", "large.sx")
    ]


@pytest.mark.usefixtures("stdin")
@pytest.mark.parametrize(
    ("options", "code", "out"),
    [([], 0, RIGHT), (["-q"], 0, RIGHT), (["--check"], 1, "")],
    ids=["plain", "quiet", "check"],
)
def test_standard_input(run: Run, options: list[str], code: int, out: str) -> None:
    ended = run("fmt", *options, "-")
    assert (ended.exit_code, ended.out, ended.err) == (code, out, "")


@pytest.mark.usefixtures("stdin")
def test_the_difference_of_standard_input(run: Run) -> None:
    assert run("fmt", "--diff", "-").out.startswith("--- <stdin>\n+++ <stdin>\n")


def test_standard_output_is_utf_8_whatever_the_terminal_has() -> None:
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "statex", "fmt", "-"],
        input="drop  ü".encode(),
        env=plain,
        check=True,
        capture_output=True,
    )
    assert ended.stdout == "drop ü\n".encode()


def test_standard_input_stands_alone(run: Run, folder: Path) -> None:
    ended = run("fmt", "-", "odd.sx")
    assert ended.exit_code == 2
    assert "- stands alone" in ended.err


def test_a_file_with_errors_is_left_and_the_others_are_not(run: Run, folder: Path) -> None:
    wrong = "drop   a\nset\nkeep\n"
    (folder / "a.sx").write_text(wrong)
    ended = run("fmt", "--concise", "a.sx", "odd.sx", "none.sx")
    assert ended.exit_code == 3
    assert ended.out.splitlines() == ["formatted odd.sx", "1 file formatted, 0 files left as they are"]
    assert [line.split(" ")[0] for line in ended.err.splitlines()] == ["a.sx:2:3:", "a.sx:3:4:", "error[SX222]:"]
    assert (folder / "a.sx").read_text() == wrong
    assert run("fmt", "a.sx").exit_code == run("check", "a.sx").exit_code == 1


def test_permissions_and_links_stay(run: Run, folder: Path) -> None:
    (folder / "odd.sx").chmod(0o640)
    (folder / "link.sx").symlink_to("odd.sx")
    assert run("fmt", "link.sx").exit_code == 0
    assert (folder / "link.sx").is_symlink()
    assert (folder / "odd.sx").read_text() == RIGHT
    assert stat.S_IMODE((folder / "odd.sx").stat().st_mode) == 0o640


def test_a_read_only_file_stays(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked of the system, as root may write to any file.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder / "odd.sx" or mode != os.W_OK)
    ended = run("fmt", "odd.sx")
    assert (ended.exit_code, ended.err.strip()) == (3, "error[SX612]: `odd.sx` cannot be written: Permission denied")
    assert (folder / "odd.sx").read_text() == ODD


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(run: Run, folder: Path) -> None:
    os.chown(folder / "odd.sx", 12345, 54321)
    assert run("fmt", "odd.sx").exit_code == 0
    after = (folder / "odd.sx").stat()
    assert (after.st_uid, after.st_gid, (folder / "odd.sx").read_text()) == (12345, 54321, RIGHT)


def test_a_folder_that_cannot_be_read_is_an_error(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scan(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    ended = run("fmt", "--check", ".")
    assert ended.exit_code == 3
    assert "the folder `./sub` cannot be read: Permission denied" in ended.err


def test_a_file_that_cannot_be_replaced_stays(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(os, "replace", fail)
    ended = run("fmt", "odd.sx")
    assert ended.exit_code == 3
    assert "`odd.sx` cannot be written: No space left on device" in ended.err
    assert (folder / "odd.sx").read_text() == ODD
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("printed", ["drop b # x\nset? b = 1\n", "drop a\nset? b = 1\n"])
def test_a_printer_that_is_wrong_writes_nothing(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    monkeypatch.setattr(formatter, "show_program", lambda *_, **__: printed)
    with pytest.raises(RuntimeError, match="please report this"):
        run("fmt", "odd.sx")
    assert (folder / "odd.sx").read_text() == ODD


def test_line_ends_stay(run: Run, folder: Path) -> None:
    (folder / "odd.sx").write_bytes(ODD.replace("\n", "\r\n").encode())
    run("fmt", "odd.sx")
    assert (folder / "odd.sx").read_bytes() == RIGHT.replace("\n", "\r\n").encode()
    assert run("fmt", "--check", "odd.sx").exit_code == 0


def test_nothing_named(run: Run) -> None:
    ended = run("fmt")
    assert ended.exit_code == 2
    assert "Missing argument" in ended.err


def test_the_command_has_the_name_of_its_module() -> None:
    assert command.fmt.__name__ == "fmt"
