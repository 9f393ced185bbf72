"""Several outputs that appear together: ended or failing at any call of the system, and settled afterwards."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from statex import StatexError
from statex.checkpoint.atomic.recovery import recover
from statex.checkpoint.atomic.signals import held_signals
from statex.checkpoint.atomic.transaction import Transaction
from tests.checkpoint.atomic.steps import Case, Killed, System, dies_at, fails_at, in_child, kill_at, listed

CASES = [
    "a.pth report.json",
    "!a.pth !report.json",
    "!set/ report.json",
    "a/x.pth !a/set/ !b/set/",
    "set/ !a.pth b.pth",
]
SYSTEMS = {
    "linux": System,
    "no exchange": lambda **named: System(exchanges=False, **named),
    "neither": lambda **named: System(exchanges=False, links=False, **named),
}
"""Systems: some exchange names, some have hard links only, some not even those."""
MANY = 1000


@pytest.fixture
def case(tmp_path: Path) -> Callable[[str], Case]:
    numbers = itertools.count()

    def make(written: str) -> Case:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return Case(folder, written)

    return make


def ended_at_each_step(
    make: Callable[[], Case], system: Callable[..., System], work: Callable[[Case], object]
) -> Iterator[tuple[int, Case]]:
    """Yield a case after its work was ended before each call of the system, until it comes to its end."""
    for step in range(MANY):
        one = make()
        away = not system().exchanges

        def before(number: int, step: int = step, one: Case = one, away: bool = away) -> None:
            if number == step:
                one.check_whole(may_be_away=away)
            dies_at(step)(number)

        try:
            with system(before=before).installed():
                work(one)
        except Killed:
            yield step, one
        else:
            return
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", CASES)
def test_a_run_that_ends_anywhere_is_finished_or_undone(case: Callable[[str], Case], written: str, name: str) -> None:
    outcomes = []
    for step, one in ended_at_each_step(lambda: case(written), SYSTEMS[name], Case.run):
        has_journal = any("statex-journal" in path and (one.folder / path).stat().st_size for path in one.listing())
        # The next command may meet any of the outputs first, and need no other.
        first = one.paths[step % len(one.paths)]
        with SYSTEMS[name]().installed():
            said = recover([first])
            said += recover(one.paths)
            assert bool(said) == has_journal, step
            outcomes.append(one.check_settled())
            assert {one.finished for one in said} <= {outcomes[-1] == "new"}
            assert recover(one.paths) == ()
    # Once it goes forward there is no way back.
    assert outcomes == sorted(outcomes, reverse=True)
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", ["!a.pth !set/ report.json", "!a.pth b/report.json"])
def test_recovery_that_ends_anywhere_goes_on_the_next_time(
    case: Callable[[str], Case], written: str, name: str
) -> None:
    seen = set()
    for step, ended in ended_at_each_step(lambda: case(written), SYSTEMS[name], Case.run):
        if (state := tuple(ended.ages() + [path.split(".")[-1] for path in ended.listing()])) in seen:
            continue
        seen.add(state)
        wanted = None

        def again(step: int = step) -> Case:
            one = case(written)
            with pytest.raises(Killed), SYSTEMS[name](before=dies_at(step)).installed():
                one.run()
            return one

        for _, one in ended_at_each_step(again, SYSTEMS[name], lambda one: recover(one.paths)):
            with SYSTEMS[name]().installed():
                recover(one.paths)
            outcome = one.check_settled()
            assert wanted in (None, outcome)
            wanted = outcome
    assert len(seen) > 10


def test_a_process_that_is_killed_anywhere(case: Callable[[str], Case]) -> None:
    """As above, with processes and SIGKILL in place of an exception."""
    outcomes = []
    for step in range(MANY):
        one = case("!a.pth set/")

        def work(one: Case = one, step: int = step) -> None:
            with System(before=kill_at(step)).installed():
                one.run()

        if (ended := in_child(work)) == 0:
            break
        assert os.WTERMSIG(ended) == signal.SIGKILL
        one.check_whole()
        assert in_child(lambda one=one: recover(one.paths)) == 0  # type: ignore[misc]
        outcomes.append(one.check_settled())
    assert set(outcomes) == {"old", "new"}


@pytest.mark.parametrize("calls", [1, MANY])
@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("written", CASES[2:])
def test_a_call_that_fails_anywhere(case: Callable[[str], Case], written: str, name: str, calls: int) -> None:
    for step in range(MANY):
        one = case(written)
        system = SYSTEMS[name](before=fails_at(step, calls))
        try:
            with system.installed():
                one.run()
            said = None
        except StatexError as error:
            said = error
        if system.count <= step:
            return
        # Where names are not exchanged and nothing works any more, one may be between two of them.
        one.check_whole(may_be_away=calls > 1 and not system.exchanges)
        with SYSTEMS[name]().installed():
            recover(one.paths)
        one.check_settled()
        assert said is None or "Input/output error" in str(said)
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("done", list(itertools.product([False, True], repeat=3)))
def test_renames_that_reached_the_disk_in_any_order(case: Callable[[str], Case], done: tuple[bool, ...]) -> None:
    """After a power cut each file system has what it has written, whatever the order was."""
    one = case("a/x.pth !b/set/ !c/y.pth")
    outputs = Transaction()
    one.stage(outputs)
    moves = listed(outputs)
    for move, is_done in zip(moves, done, strict=True):
        if is_done:
            move.finish()
    (said,) = recover(one.paths)
    assert said.finished
    assert sorted(said.outputs) == sorted(map(str, one.paths))
    assert one.check_settled() == "new"


def test_an_output_that_appears_meanwhile_is_left_and_the_others_are_put_back(case: Callable[[str], Case]) -> None:
    one = case("!a.pth !set/ b.pth")
    with Transaction() as outputs:
        one.stage(outputs)
        one.paths[2].write_bytes(b"somebody else's")
        with pytest.raises(StatexError, match="SX610") as caught:
            outputs.commit()
    assert "b.pth` exists" in str(caught.value)
    assert one.ages() == ["old", "old", "half"]
    assert one.paths[2].read_bytes() == b"somebody else's"
    assert not litter(one)


def test_an_output_that_appears_while_names_are_given(case: Callable[[str], Case]) -> None:
    one = case("!a.pth !set/ b.pth")

    def before(number: int) -> None:
        if one.ages()[:2] == ["new", "new"] and not one.paths[2].exists():
            one.paths[2].write_bytes(b"somebody else's")

    with Transaction() as outputs:
        one.stage(outputs)
        with pytest.raises(StatexError, match="SX610"), System(before=before).installed():
            outputs.commit()
    assert one.ages() == ["old", "old", "half"]
    assert not litter(one)


def test_an_output_that_changes_while_it_is_replaced(case: Callable[[str], Case]) -> None:
    one = case("!a.pth !b.pth")

    def before(number: int) -> None:
        if one.ages()[0] == "new" and one.ages()[1] == "old":
            one.paths[1].write_bytes(b"somebody else's")

    with Transaction() as outputs:
        one.stage(outputs)
        with pytest.raises(StatexError, match=r"SX612(.|\n)*was changed by"), System(before=before).installed():
            outputs.commit()
    assert one.ages() == ["old", "half"]
    assert not litter(one)


def test_outputs_that_meet_are_refused(case: Callable[[str], Case]) -> None:
    one = case("!set/ a.pth")

    def stage(*names: str) -> None:
        with Transaction() as outputs:
            for name in names:
                if name.endswith("/"):
                    outputs.stage_folder(one.folder / name, lambda path: None, force=True)
                else:
                    outputs.stage_bytes(one.folder / name, b"x", force=True)

    for names, said in [(("a.pth", "./a.pth"), "twice"), (("set/", "set/report.json"), "is in the folder")]:
        for order in (names, names[::-1]):
            with pytest.raises(StatexError, match=rf"SX612(.|\n)*{said}"):
                stage(*order)
    assert one.listing() == one.before


def test_a_folder_with_files_of_somebody_else_is_not_replaced(case: Callable[[str], Case]) -> None:
    one = case("a.pth !set/")
    (one.folder / "set" / "notes.txt").write_text("mine")
    before = one.listing()
    with pytest.raises(StatexError, match=r"SX610(.|\n)*notes\.txt"):
        one.run()
    assert one.listing() == before


def test_replaced_outputs_keep_their_modes_and_links_stay_links(case: Callable[[str], Case]) -> None:
    one = case("!a.pth !set/ !b.pth")
    one.paths[0].chmod(0o640)
    one.paths[1].chmod(0o2750)
    link = one.folder / "link.pth"
    link.symlink_to("b.pth")
    with Transaction() as outputs:
        one.outs[2] = type(one.outs[2])("!link.pth")
        one.stage(outputs)
        outputs.commit()
    assert link.is_symlink()
    assert (one.folder / "b.pth").read_bytes() == link.read_bytes() == link.read_bytes()
    assert b"link.pth new" in link.read_bytes()
    assert [path.stat().st_mode & 0o7777 for path in one.paths[:2]] == [0o640, 0o2750]


@pytest.mark.parametrize("alone", [True, False])
def test_one_output(case: Callable[[str], Case], alone: bool) -> None:
    for written in ("a.pth", "!a.pth", "set/", "!set/"):
        one = case(written)
        with Transaction(alone=alone) as outputs:
            one.stage(outputs)
            assert one.ages() in (["none"], ["old"])
            outputs.commit()
        assert one.check_settled() == "new"


def test_nothing_is_left_where_nothing_is_committed(case: Callable[[str], Case]) -> None:
    one = case("!a.pth set/")
    with Transaction() as outputs:
        one.stage(outputs)
        assert litter(one)
    assert one.listing() == one.before
    outputs.discard()


def litter(one: Case) -> list[str]:
    return [path for path in one.listing() if ".statex-" in path]


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no second file system")
def test_two_file_systems(case: Callable[[str], Case], tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is no other file system here")

        def make() -> Case:
            shutil.rmtree(other)
            os.mkdir(other)
            one = case("!a.pth set/")
            os.symlink(other, one.folder / "other")
            one.outs += [type(one.outs[0])("!other/b.pth"), type(one.outs[0])("other/c/")]
            one._write(one.paths[2], one.outs[2], "old")
            one.before = one.listing()
            return one

        outcomes = []
        for _, one in ended_at_each_step(make, System, Case.run):
            recover(one.paths)
            outcomes.append(one.check_settled())
            assert [path for path in os.listdir(other) if ".statex" in path] == []
        assert outcomes == sorted(outcomes, reverse=True)
        assert set(outcomes) == {"old", "new"}


def test_signals_wait_until_all_have_their_names(case: Callable[[str], Case]) -> None:
    one = case("!a.pth !set/ b.pth")
    heard: list[int] = []

    class Stop(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        heard.append(number)
        raise Stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        outputs = Transaction()
        one.stage(outputs)
        sent = System(before=lambda count: signal.raise_signal(signal.SIGTERM if count % 2 else signal.SIGHUP))
        with pytest.raises(Stop), sent.installed():
            outputs.commit()
        # Both were sent at each call, and each is delivered once at most: the first one ends the process.
        assert heard == [signal.SIGHUP]
        assert signal.getsignal(signal.SIGTERM) is stop
        assert one.check_settled() == "new"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_signal_while_outputs_are_written_leaves_nothing(case: Callable[[str], Case]) -> None:
    """Python raises `KeyboardInterrupt` wherever the signal meets it."""
    sent = 0
    for step in range(MANY):
        one = case("!a.pth set/")

        def before(number: int, step: int = step) -> None:
            if number == step:
                signal.raise_signal(signal.SIGINT)

        system = System(before=before)
        try:
            with system.installed():
                one.run()
        except KeyboardInterrupt:
            sent += 1
        assert one.check_settled() == ("old" if sent == step + 1 and not one.paths[1].exists() else "new")
        if system.count <= step:
            break
    assert sent > 30


def test_signals_that_are_ignored_stay_so_and_other_threads_have_none_to_hold() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
        thread_saw: list[object] = []

        def elsewhere() -> None:
            with held_signals():
                thread_saw.append(signal.getsignal(signal.SIGINT))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert thread_saw == [signal.getsignal(signal.SIGINT)]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_handler_sets_for_the_others_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line ignores all further signals once one was heard, while it cleans up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    change = signal.signal

    came: list[int] = []

    def heard(number: int, frame: object) -> None:
        came.append(number)
        for other in numbers:
            change(other, signal.SIG_IGN)

    def at_once(number: int, handler: Any) -> Any:
        """Change a handler, and have the signal arrive right then, before the others are changed."""
        before = change(number, handler)
        if handler is heard:
            signal.raise_signal(number)
        return before

    before = {number: change(number, heard) for number in numbers}
    try:
        with held_signals():
            monkeypatch.setattr(signal, "signal", at_once)
        assert came == [signal.SIGHUP]
        assert [signal.getsignal(number) for number in numbers] == [signal.SIG_IGN] * 3
    finally:
        for number, handler in before.items():
            change(number, handler)
