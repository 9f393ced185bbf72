"""What the next command makes of journals: changed outputs, disks that are away, live runs, and hostile files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statex import StatexError
from statex.checkpoint.atomic import entries, journal
from statex.checkpoint.atomic.moves import Move, identify
from statex.checkpoint.atomic.names import journal_of
from statex.checkpoint.atomic.recovery import Recovered, recover
from statex.checkpoint.atomic.renames import aside, beside
from statex.checkpoint.atomic.transaction import Transaction
from tests.checkpoint.atomic.steps import Case, System, in_child, listed, started
from tests.effort import examples


def interrupted(folder: Path, written: str, done: int = 0) -> Case:
    """Return a run that ended after so many of its renames."""
    folder.mkdir(exist_ok=True)
    one = Case(folder, written)
    outputs = Transaction()
    with System().installed():
        one.stage(outputs)
        for move in listed(outputs)[:done]:
            move.finish()
    return one


def said(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(StatexError) as caught:
        call()
    return caught.value.diagnostics[0].code.id, str(caught.value)


def test_what_is_said(tmp_path: Path) -> None:
    one = interrupted(tmp_path, "!a.pth b.pth", 1)
    (done,) = recover([one.paths[1]])
    assert done == Recovered(True, (str(one.paths[0]), str(one.paths[1])))
    found = done.diagnostic()
    assert (found.code.id, found.severity.value) == ("SX907", "warning")
    assert found.headline == "a run that was interrupted was finished: its outputs are in place"
    assert found.rows == ((f"  {one.paths[0]}",), (f"  {one.paths[1]}",))


def test_a_changed_output_is_left_and_the_others_are_put_back(tmp_path: Path) -> None:
    one = interrupted(tmp_path, "!a.pth !b.pth !set/ c.json", 4)
    one.paths[1].write_bytes(b"somebody else's")
    (done,) = recover([one.paths[0]])
    assert not done.finished
    assert done.changed == (str(one.paths[1]),)
    assert str(one.paths[1]) not in done.outputs
    assert one.ages() == ["old", "half", "old", "none"]
    assert [p for p in one.listing() if ".statex" in p] == []
    (note,) = done.diagnostic().notes
    assert note.text == f"`{one.paths[1]}` has been changed since and was left as it is"


@pytest.mark.parametrize("where", ["final", "temporary"])
def test_a_file_in_a_folder_that_somebody_has_changed(tmp_path: Path, where: str) -> None:
    one = interrupted(tmp_path, "!a.pth !set/", 1)
    folder = one.paths[1] if where == "final" else next(tmp_path.glob(".set.*.statex-tmp"))
    inner = folder / "model-00001-of-00002.safetensors"
    inner.write_bytes(inner.read_bytes()[::-1])
    (done,) = recover([one.paths[0]])
    assert not done.finished
    assert one.ages()[0] == "old"
    assert done.changed == ((str(one.paths[1]),) if where == "final" else ())
    assert [p for p in one.listing() if ".statex" in p] == []


def test_a_new_output_that_had_both_its_names_is_undone(tmp_path: Path) -> None:
    """Where a link was made, and what was linked not yet removed."""
    one = interrupted(tmp_path, "a.pth !b.pth")
    os.link(next(tmp_path.glob(".a.pth.*.statex-tmp")), one.paths[0])
    one.paths[1].write_bytes(b"somebody else's")
    (done,) = recover([one.paths[0]])
    assert (done.finished, done.outputs) == (False, (str(one.paths[0]),))
    assert one.listing() == ["b.pth"]


def test_signals_wait_until_a_run_is_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = interrupted(tmp_path, "!a.pth set/", 1)
    finish = Move.finish

    def finish_and_be_stopped(move: Move) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(move)

    monkeypatch.setattr(Move, "finish", finish_and_be_stopped)
    with pytest.raises(KeyboardInterrupt):
        recover(one.paths)
    assert one.check_settled() == "new"


def test_an_output_that_was_removed_since_does_not_come_back(tmp_path: Path) -> None:
    one = interrupted(tmp_path, "!a.pth !b.pth", 1)
    one.paths[1].unlink()
    (done,) = recover([one.paths[0]])
    assert (done.finished, done.changed) == (False, (str(one.paths[1]),))
    assert one.ages() == ["old", "none"]


def test_where_the_old_ones_are_being_removed_the_run_is_done_whatever_changes(tmp_path: Path) -> None:
    one = interrupted(tmp_path, "!a.pth !b.pth", 2)
    next(tmp_path.glob(".a.pth.*.statex-tmp")).unlink()
    one.paths[1].write_bytes(b"somebody else's")
    (done,) = recover([one.paths[1]])
    assert (done.finished, done.changed) == (True, (str(one.paths[1]),))
    assert one.ages() == ["new", "half"]
    assert [p for p in one.listing() if ".statex" in p] == []


def test_a_disk_that_is_away(tmp_path: Path) -> None:
    one = interrupted(tmp_path, "!here/a.pth !disk/b.pth", 1)
    before = one.listing()
    os.rename(tmp_path / "disk", tmp_path / "away")
    code, text = said(lambda: recover([one.paths[0]]))
    assert code == "SX623"
    assert f"`{one.paths[1]}`" in text
    assert f"rm '{journal_of(one.paths[0])}'" in text
    assert recover([tmp_path / "away" / "c.pth"]) == ()
    os.rename(tmp_path / "away", tmp_path / "disk")
    assert one.listing() == before
    (done,) = recover([one.paths[0]])
    assert done.finished
    assert one.check_settled() == "new"


def test_what_was_done_is_said_where_something_else_cannot_be(tmp_path: Path) -> None:
    one = interrupted(tmp_path / "1", "!a.pth b.pth")
    other = interrupted(tmp_path / "2", "!here/a.pth !disk/b.pth", 1)
    shutil.rmtree(tmp_path / "2" / "disk")
    with pytest.raises(StatexError) as caught:
        recover([*one.paths, *other.paths])
    assert [d.code.id for d in caught.value.diagnostics] == ["SX623", "SX907"]
    assert caught.value.exit_code == 3
    assert one.check_settled() == "new"


@pytest.mark.parametrize(("done", "outcome"), [(0, "old"), (1, "old"), (2, "new")])
def test_an_output_whose_journal_is_gone_is_not_touched(tmp_path: Path, done: int, outcome: str) -> None:
    one = interrupted(tmp_path, "!a.pth b/c.pth", done)
    journal_of(one.paths[1]).unlink()
    before = sorted((tmp_path / "b").iterdir())
    (found,) = recover([one.paths[0]])
    assert found.outputs == (str(one.paths[0]),)
    assert one.ages()[0] == outcome
    assert sorted((tmp_path / "b").iterdir()) == before


def test_a_list_that_was_cut_off_was_never_acted_upon(tmp_path: Path) -> None:
    for cut in (1, 100):
        one = interrupted(tmp_path / str(cut), "!a.pth b.pth")
        path = journal_of(one.paths[1])
        path.write_bytes(path.read_bytes()[:-cut])
        (done,) = recover([one.paths[0]])
        assert done == Recovered(False, tuple(map(str, one.paths)))
        assert one.check_settled() == "old"


@pytest.mark.parametrize("length", [0, 1, 30])
def test_a_journal_that_was_hardly_begun(tmp_path: Path, length: int) -> None:
    one = interrupted(tmp_path, "!a.pth b.pth")
    for path in one.paths:
        journal_of(path).write_bytes(journal_of(path).read_bytes()[:length])
    assert recover(one.paths) == ()
    assert not any(journal_of(path).exists() for path in one.paths)
    assert one.ages() == ["old", "none"]


def test_paths_by_which_a_journal_is_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "way").symlink_to("real")
    (tmp_path / "file.pth").symlink_to("way/a.pth")
    (tmp_path / "link").symlink_to("way/set")
    for path in ["real/a.pth", "way/a.pth", "file.pth", "real/set", "link/", "link/model.safetensors", "way/set/no"]:
        one = interrupted(tmp_path / "real", "!a.pth !set/")
        assert len(recover([path])) == 1, path
        assert one.check_settled() == "new"
        shutil.rmtree(tmp_path / "real")
        (tmp_path / "real").mkdir()
    assert recover(["real/a.pth", "no/such/folder/x", "/", "", ".", "real/../real/b"]) == ()


@pytest.mark.parametrize(
    "name", ["ä" * 125 + ".pth", os.fsdecode(b"\xff\xfe.pth"), "a b%25\n\t'\".pth", "x" * 239, "y" * 240]
)
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(journal_of(Path("/", name)).name)) <= 255
    assert len(os.fsencode(aside(beside(Path("/", name))).name)) <= 255
    with Transaction() as outputs:
        for path in (tmp_path / name, tmp_path / "report.json"):
            outputs.stage_bytes(path, b"new", force=False)
        listed(outputs)
        (done,) = recover([tmp_path / "report.json"])
    assert done.finished
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "report.json"])


def test_long_names_that_begin_alike_have_journals_of_their_own() -> None:
    one, two = (journal_of(Path("/", "x" * 250 + last)) for last in "ab")
    assert one != two


def test_journals_of_a_live_run_are_left_alone(tmp_path: Path) -> None:
    one = Case(tmp_path, "!a.pth b.pth")
    with Transaction() as outputs:
        one.stage(outputs)
        before = one.listing()
        started = time.monotonic()
        assert recover(one.paths) == ()
        assert in_child(lambda: recover(one.paths)) == 0
        assert time.monotonic() - started < 2
        assert one.listing() == before
        outputs.commit()
    assert one.check_settled() == "new"


def test_a_second_run_does_not_write_the_same_output(tmp_path: Path) -> None:
    one = Case(tmp_path, "!a.pth b.pth")
    with Transaction() as outputs:
        one.stage(outputs)
        code, text = said(one.run)
        assert (code, "another run" in text) == ("SX624", True)
    assert one.check_settled() == "old"
    one = interrupted(tmp_path, "c.pth d.pth")
    code, text = said(one.run)
    assert (code, "that was interrupted" in text) == ("SX624", True)
    recover(one.paths)
    assert one.check_settled() == "new"


def test_a_command_waits_while_names_are_given(tmp_path: Path) -> None:
    """The other process ends within the renames, as if it had taken its time with them: what it left is settled."""
    one = Case(tmp_path, "!a.pth b.pth")
    ready, told = os.pipe()

    def work() -> None:
        outputs = Transaction()
        one.stage(outputs)
        moves = listed(outputs, close=False)
        moves[0].finish()
        os.write(told, b"x")
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)

    child = started(work)
    os.read(ready, 1)
    (done,) = recover(one.paths)
    assert done.finished
    assert one.check_settled() == "new"
    os.waitpid(child, 0)
    os.close(ready)
    os.close(told)


def test_a_command_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Case(tmp_path, "!a.pth b.pth")
    monkeypatch.setattr(journal, "_PATIENCE", 0.1)
    outputs = Transaction()
    one.stage(outputs)
    listed(outputs, close=False)
    assert recover(one.paths) == ()
    for staged in outputs.staged:
        assert staged.journal is not None
        staged.journal.close()
    assert len(recover(one.paths)) == 1


def test_a_system_that_refuses_is_said_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = interrupted(tmp_path, "!a.pth !b.pth", 1)
    before = one.listing()

    def refused(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr("statex.checkpoint.atomic.renames.renameat2", lambda *names: 38)
    code, text = said(lambda: recover(one.paths))
    assert (code, "Permission denied" in text) == ("SX622", True)
    monkeypatch.undo()
    assert set(one.listing()) >= set(before)
    assert len(recover(one.paths)) == 1
    assert one.check_settled() == "new"


# A journal may be a stranger's.


def changed(path: Path, change: Callable[[Any, Any], object]) -> None:
    head, listed_moves = (json.loads(line) for line in path.read_bytes().splitlines())
    change(head, listed_moves)
    path.write_text(f"{json.dumps(head)}\n{json.dumps(listed_moves)}\n".replace('"statex": ', '"statex":', 1))


def _rename_temporary(head: Any, moves: Any, name: str) -> None:
    for one in (head, moves["moves"][0]):
        one["temporary"] = os.path.join(os.path.dirname(one["final"]), name)


HOSTILE: dict[str, Callable[[Any, Any], object]] = {
    "temporary is precious": lambda head, moves: _rename_temporary(head, moves, "precious.pth"),
    "temporary is elsewhere": lambda head, moves: _rename_temporary(head, moves, "../.a.pth.00000000.statex-tmp"),
    "temporary is of another": lambda head, moves: _rename_temporary(head, moves, ".precious.pth.00000000.statex-tmp"),
    "only the list says otherwise": lambda head, moves: moves["moves"][0].update(
        temporary=moves["moves"][0]["temporary"][:-20] + "00000000.statex-tmp"
    ),
    "final is relative": lambda head, moves: moves["moves"][1].update(
        final="b.pth", temporary=".b.pth.00000000.statex-tmp"
    ),
    "final is not normal": lambda head, moves: moves["moves"][1].update(
        final="/x/../b.pth", temporary="/x/../.b.pth.00000000.statex-tmp"
    ),
    "final has a zero byte": lambda head, moves: head.update(final=head["final"] + "%00"),
    "final is another": lambda head, moves: head.update(final=head["final"].replace("a.pth", "c.pth")),
    "its own is not listed": lambda head, moves: moves["moves"].pop(0),
    "twice": lambda head, moves: moves["moves"].append(dict(moves["moves"][0])),
    "other version": lambda head, moves: head.update(statex=2),
    "more fields": lambda head, moves: head.update(more=1),
    "fewer fields": lambda head, moves: head.pop("run"),
    "no list": lambda head, moves: moves.update(moves={}),
    "empty list": lambda head, moves: moves.update(moves=[]),
    "a number that is true": lambda head, moves: moves["moves"][0]["staged"].update(inode=True),
    "a large number": lambda head, moves: moves["moves"][0]["staged"].update(inode=10**30),
    "a fraction": lambda head, moves: moves["moves"][0]["staged"].update(mtime=1.5),
    "text for a flag": lambda head, moves: moves["moves"][0].update(folder="no"),
    "no identity": lambda head, moves: moves["moves"][0].update(staged=None),
    "text that is no ASCII": lambda head, moves: head.update(run="ü"),
}


def precious(folder: Path) -> Case:
    folder.mkdir(exist_ok=True)
    (folder / "precious.pth").write_bytes(b"precious")
    return interrupted(folder, "!a.pth b.pth", 1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_journal_that_statex_would_not_make_is_refused(tmp_path: Path, name: str) -> None:
    one = precious(tmp_path)
    changed(journal_of(one.paths[0]), HOSTILE[name])
    before = contents(tmp_path)
    code, text = said(lambda: recover([one.paths[0]]))
    assert code == "SX622"
    assert f"rm '{journal_of(one.paths[0])}'" in text
    assert contents(tmp_path) == before
    # Nor is it by way of the other output.
    assert said(lambda: recover([one.paths[1]]))[0] == "SX622"
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "data",
    [
        b"[]\n",
        b"x",
        b"{}\n{}\n",
        b'{"statex":1,"statex":1}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        b"0" * (5 << 20),
        b"1e999\n",
    ],
    ids=range(8),
)
def test_a_journal_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    journal_of(tmp_path / "a.pth").write_bytes(data)
    assert said(lambda: recover([tmp_path / "a.pth"]))[0] == "SX622"
    assert journal_of(tmp_path / "a.pth").read_bytes() == data


def test_a_journal_with_something_behind_it_is_refused(tmp_path: Path) -> None:
    one = precious(tmp_path)
    with journal_of(one.paths[0]).open("ab") as file:
        file.write(b"\n")
    assert said(lambda: recover(one.paths))[0] == "SX622"


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    path = journal_of(tmp_path / "a.pth")
    os.mkfifo(path)
    assert said(lambda: recover([tmp_path / "a.pth"]))[0] == "SX622"
    path.unlink()
    path.mkdir()
    assert said(lambda: recover([tmp_path / "a.pth"]))[0] == "SX622"
    path.rmdir()
    one = precious(tmp_path / "run")
    path.symlink_to(journal_of(one.paths[0]))
    before = contents(tmp_path / "run")
    assert said(lambda: recover([tmp_path / "a.pth"]))[0] == "SX622"
    assert contents(tmp_path / "run") == before


def test_a_folder_that_was_copied_or_moved(tmp_path: Path) -> None:
    one = precious(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    before = contents(tmp_path / "copy"), contents(tmp_path / "run")
    code, text = said(lambda: recover([tmp_path / "copy" / "a.pth"]))
    assert (code, "moved or copied" in text) == ("SX622", True)
    assert (contents(tmp_path / "copy"), contents(tmp_path / "run")) == before
    assert len(recover(one.paths)) == 1


def test_a_journal_cannot_reach_for_outputs_that_have_none(tmp_path: Path) -> None:
    """It lists a victim elsewhere, with its true identity; only a journal beside that could say so."""
    one = precious(tmp_path / "run")
    (tmp_path / "home").mkdir()
    victim, planted = tmp_path / "home" / "victim.pth", tmp_path / "home" / ".victim.pth.00000000.statex-tmp"
    victim.write_bytes(b"precious")
    planted.write_bytes(b"planted")
    identities = [entries._encode_identity(found) for path in (planted, victim) if (found := identify(path))]

    def reach(head: Any, moves: Any) -> None:
        moves["moves"][1] = {
            "final": str(victim),
            "temporary": str(planted),
            "folder": False,
            "staged": identities[0],
            "previous": identities[1],
        }

    changed(journal_of(one.paths[0]), reach)
    recover([one.paths[0]])
    assert victim.read_bytes() == b"precious"
    assert planted.read_bytes() == b"planted"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_journals_of_another_user_are_refused(tmp_path: Path) -> None:
    one = precious(tmp_path)
    os.chown(journal_of(one.paths[1]), 12345, -1)
    before = contents(tmp_path)
    code, text = said(lambda: recover([one.paths[0]]))
    assert (code, "another user" in text) == ("SX622", True)
    assert contents(tmp_path) == before


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_journals_harm_nothing(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path)
    one = precious(tmp_path)
    path = journal_of(one.paths[0])
    text = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text) - 1))
        text[start : start + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    path.write_bytes(text)
    codes: set[str] = set()
    try:
        recover([one.paths[0]])
    except StatexError as error:
        codes = {found.code.id for found in error.diagnostics}
    assert codes <= {"SX622", "SX623"}
    assert (tmp_path / "precious.pth").read_bytes() == b"precious"
    assert one.ages()[0] in ("old", "new")
    assert one.ages()[1] in ("none", "new")
