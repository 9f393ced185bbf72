"""How far a run is, as a terminal and a log show it: what is said, when, and what becomes of it."""

from __future__ import annotations

import io
import os
import shutil
import sys

import pytest

from statex.cli.live import LiveLine, Plain
from statex.cli.pace import Pace, show_time
from statex.core.progress import Progress

GIB = 1 << 30


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class Screen(io.StringIO):
    """A terminal that knows `\\r` and `\\n`, and nothing else."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What is to be seen on it."""
        found = []
        for text in self.getvalue().split("\n"):
            shown = ""
            for part in text.split("\r"):
                shown = part + shown[len(part) :]
            found.append(shown.rstrip())
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_said_of_a_phase(clock: Clock) -> None:
    pace = Pace(clock)
    clock.wait(3)
    assert str(pace) == "planning, 0:03"
    assert pace.hear(Progress("writing", 0, 4 * GIB))
    assert str(pace) == "writing, 4.0 GiB, 0:00"
    clock.wait(0.5)
    assert not pace.hear(Progress("writing", GIB // 2, 4 * GIB))
    assert str(pace) == "writing  12 %, 512.0 MiB of 4.0 GiB"  # too early to say more
    clock.wait(1.5)
    pace.hear(Progress("writing", GIB, 4 * GIB))
    assert str(pace) == "writing  25 %, 1.0 GiB of 4.0 GiB, 512.0 MiB/s, 0:06 left"
    clock.wait(2)  # nothing is heard: it goes on more slowly than was thought
    assert str(pace) == "writing  25 %, 1.0 GiB of 4.0 GiB, 256.0 MiB/s, 0:12 left"


def test_the_speed_is_that_of_lately(clock: Clock) -> None:
    """What the system takes into memory says nothing of the disk."""
    pace = Pace(clock)
    pace.hear(Progress("writing", 0, 40 * GIB))
    for done in range(1, 11):  # 1 GiB a second, then a tenth of that
        clock.wait(1)
        pace.hear(Progress("writing", done * GIB, 40 * GIB))
    assert str(pace).endswith("1.0 GiB/s, 0:30 left")
    for done in range(1, 31):
        clock.wait(1)
        pace.hear(Progress("writing", 10 * GIB + done * GIB // 10, 40 * GIB))
    assert str(pace) == "writing  32 %, 13.0 GiB of 40.0 GiB, 102.4 MiB/s, 4:30 left"


def test_a_disk_that_says_nothing_of_how_far_it_is(clock: Clock) -> None:
    pace = Pace(clock)
    pace.hear(Progress("syncing", 0, 5 * GIB))
    clock.wait(61)
    assert str(pace) == "syncing, 5.0 GiB, 1:01"


def test_a_total_that_nobody_knows(clock: Clock) -> None:
    pace = Pace(clock)
    pace.hear(Progress("reading", 3 * GIB))
    clock.wait(5)
    assert str(pace) == "reading, 3.0 GiB, 0:05"


def test_a_phase_that_comes_again_goes_on(clock: Clock) -> None:
    """The time of other phases between is not its own."""
    pace = Pace(clock)
    pace.hear(Progress("writing", 0, 4 * GIB))
    clock.wait(1)
    pace.hear(Progress("writing", GIB, 4 * GIB))
    pace.hear(Progress("syncing", 0, 4 * GIB))
    clock.wait(100)
    pace.hear(Progress("syncing", GIB, 4 * GIB))
    pace.hear(Progress("writing", GIB, 4 * GIB))
    clock.wait(1)
    pace.hear(Progress("writing", 2 * GIB, 4 * GIB))
    assert str(pace) == "writing  50 %, 2.0 GiB of 4.0 GiB, 1.0 GiB/s, 0:02 left"


def test_what_was_done_before_anybody_waited_says_nothing_of_the_speed(clock: Clock) -> None:
    pace = Pace(clock)
    pace.hear(Progress("reading", 3 * GIB, 4 * GIB))
    clock.wait(2)
    pace.hear(Progress("reading", 3 * GIB + GIB // 2, 4 * GIB))
    assert str(pace) == "reading  87 %, 3.5 GiB of 4.0 GiB, 256.0 MiB/s, 0:02 left"


def test_other_work_under_the_same_name_begins_anew(clock: Clock) -> None:
    pace = Pace(clock)
    pace.hear(Progress("reading", 4 * GIB))
    clock.wait(50)
    pace.hear(Progress("reading", 0, 2 * GIB))
    clock.wait(2)
    pace.hear(Progress("reading", GIB, 2 * GIB))
    assert str(pace) == "reading  50 %, 1.0 GiB of 2.0 GiB, 512.0 MiB/s, 0:02 left"


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (7325, "2:02:05")])
def test_times(seconds: float, said: str) -> None:
    assert show_time(seconds) == said


def test_a_line_is_rewritten_and_taken_away(clock: Clock) -> None:
    screen = Screen()
    line = LiveLine(screen, 0.2, 0.5, clock)
    line(Progress("writing", 1, GIB))
    clock.wait(0.4)
    line.tick()
    assert screen.getvalue() == ""  # it may be over in a moment
    clock.wait(0.2)
    line.tick()
    assert screen.lines == ["writing   0 %, 1 B of 1.0 GiB"]
    line(Progress("syncing", 0, GIB))
    assert screen.lines == ["writing   0 %, 1 B of 1.0 GiB"]  # not more often than every 0.2 seconds
    clock.wait(0.2)
    line.tick()
    assert screen.lines == ["syncing, 1.0 GiB, 0:00"]
    line.end()
    assert screen.lines == [""]


def test_a_line_fits_its_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((12, 5)))
    screen = Screen()
    line = LiveLine(screen, 0.2, clock=clock)
    line(Progress("reading back", 1, GIB))
    assert screen.lines == ["reading bac"]


def test_what_others_print_comes_above_the_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    line = LiveLine(screen, 0.0, clock=clock)
    with line.above():
        line(Progress("writing", 0, GIB))
        print("a warning", file=sys.stderr)
        assert screen.lines == ["a warning", ""]
        line.tick()
        assert screen.lines == ["a warning", "writing, 1.0 GiB, 0:00"]
        sys.stderr.write("half a ")
        line.tick()  # it would stand in the midst of theirs
        sys.stderr.writelines(["line", "\n"])
        line.tick()
        assert sys.stderr.isatty()
    assert sys.stderr is screen
    assert screen.lines == ["a warning", "half a line", "writing, 1.0 GiB, 0:00"]


def test_lines_of_a_log(clock: Clock) -> None:
    stream = io.StringIO()
    plain = Plain(stream, 10, clock=clock)
    plain(Progress("planning"))
    for number in range(4):  # each file is written and synced before the next
        for _ in range(3):
            clock.wait(1)
            plain(Progress("writing", number * GIB + 1, 4 * GIB))
        clock.wait(1)
        plain(Progress("syncing", number * GIB, 4 * GIB))
    for _ in range(11):
        clock.wait(1)
        plain.tick()
    assert stream.getvalue().splitlines() == [
        "planning, 0:00",
        "writing   0 %, 1 B of 4.0 GiB",
        "syncing, 4.0 GiB, 0:00",
        "writing  75 %, 3.0 GiB of 4.0 GiB, 307.2 MiB/s, 0:03 left",
        "syncing  75 %, 3.0 GiB of 4.0 GiB, 279.3 MiB/s, 0:04 left",
    ]


def test_a_log_of_short_work_is_empty(clock: Clock) -> None:
    stream = io.StringIO()
    plain = Plain(stream, 10, 0.5, clock)
    plain(Progress("planning"))
    plain(Progress("writing", GIB, GIB))
    clock.wait(0.4)
    plain(Progress("syncing", GIB, GIB))
    assert stream.getvalue() == ""


class Gone(Screen):
    """A stream whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("kind", [LiveLine, Plain])
def test_nobody_watches_any_more(clock: Clock, kind: type[LiveLine] | type[Plain]) -> None:
    live = kind(Gone(), 0.0, clock=clock)
    live(Progress("planning"))
    live(Progress("writing", 1, GIB))
    live.end()


def test_a_thread_ticks_meanwhile(clock: Clock) -> None:
    stream = io.StringIO()
    plain = Plain(stream, 0.0, clock=clock)
    with plain.ticking(0.001):
        while "planning, 0:00\n" * 2 not in stream.getvalue():
            pass
