"""Rule files that commands write: whole or not at all, and never in the place of another unless that is wanted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from statex import StatexError
from statex.cli.output import refuse_existing, write_rules


def code_of(caught: pytest.ExceptionInfo[StatexError]) -> str:
    (found,) = caught.value.diagnostics
    return found.code.id


def test_a_new_file(tmp_path: Path) -> None:
    refuse_existing(None, force=False)
    refuse_existing(tmp_path / "new.sx", force=False)
    write_rules(tmp_path / "new.sx", "drop ä\n", force=False)
    assert (tmp_path / "new.sx").read_bytes() == "drop ä\n".encode()


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "old.sx"
    path.write_text("# mine\n")
    path.chmod(0o640)
    with pytest.raises(StatexError) as caught:
        refuse_existing(path, force=False)
    assert code_of(caught) == "SX610"
    with pytest.raises(StatexError) as caught:
        write_rules(path, "drop a\n", force=False)
    assert (code_of(caught), path.read_text()) == ("SX610", "# mine\n")
    write_rules(path, "drop a\n", force=True)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("drop a\n", 0o640)
    assert os.listdir(tmp_path) == ["old.sx"]


def test_a_folder_and_a_device(tmp_path: Path) -> None:
    with pytest.raises(StatexError) as caught:
        write_rules(tmp_path, "drop a\n", force=True)
    assert code_of(caught) == "SX612"
    with pytest.raises(StatexError) as caught:
        write_rules(tmp_path / "none" / "new.sx", "drop a\n", force=False)
    assert code_of(caught) == "SX612"
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_rules(tmp_path / "pipe", "drop a\n", force=True)
    assert os.read(end, 100) == b"drop a\n"
    os.close(end)
    assert (tmp_path / "pipe").is_fifo()
