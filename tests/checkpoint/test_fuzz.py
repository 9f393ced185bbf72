"""Random pickles, for a short while; `make fuzz` goes on for ten minutes. And such as try to have something run."""

from __future__ import annotations

import contextlib
import pickle
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

import statex
from statex import StatexError
from tests.checkpoint.fuzz import TRAP, as_archive, as_old_file, attempt, files, seeds
from tests.effort import examples

SPRING, CLASS = f"c{TRAP}\nspring\n".encode(), f"c{TRAP}\nTrap\n".encode()
EMPTY = b")"


def test_seeds_can_be_read(tmp_path: Path) -> None:
    """Else the fuzzer would try nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(attempt(as_archive(b"".join(s.tokens), s.storages), tmp_path / "in.pth") for s in seeds())
        old = [s for s in seeds() if all(len(data) % 4 == 0 for data in s.storages.values())]
        found = [attempt(as_old_file(b"".join(s.tokens), s.storages), tmp_path / "in.pth") for s in old]
    assert sum(found) > 3


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(files())
def test_random_pickles(tmp_path: Path, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attempt(data, tmp_path / "in.pth")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


CRAFTED = {
    "call": SPRING + EMPTY + b"R",
    "call with arguments": SPRING + text("rm -rf") + b"\x85R",
    "the name alone": SPRING,
    "call, thrown away": SPRING + EMPTY + b"R0N",
    "call, thrown away with a mark": b"(" + SPRING + EMPTY + b"R1N",
    "call, kept in the memo alone": SPRING + EMPTY + b"Rq\x500N",
    "name, thrown away": SPRING + b"0N",
    "new": CLASS + EMPTY + b"\x81",
    "new with keywords": CLASS + EMPTY + b"}" + text("a") + b"K\x01s\x92",
    "old instance": b"(" + CLASS + b"o",
    "old instance by name": b"(" + b"i" + CLASS[1:],
    "setstate": CLASS + EMPTY + b"\x81}b",
    "setstate with slots": CLASS + EMPTY + b"\x81N}" + text("__class__") + SPRING + b"s\x86b",
    "items": CLASS + EMPTY + b"\x81" + text("k") + SPRING + b"s",
    "appended": CLASS + EMPTY + b"\x81" + SPRING + b"a",
    "chain": SPRING + SPRING + EMPTY + b"R\x85R" + EMPTY + b"R",
    "by getattr": b"c__builtin__\ngetattr\n" + SPRING + text("__call__") + b"\x86R" + EMPTY + b"R",
    "by a dotted name": f"c{TRAP}\nTrap.__setstate__\n".encode() + EMPTY + b"R",
    "by texts": text(TRAP) + text("spring") + b"\x93" + EMPTY + b"R",
    "by an extension": b"\x82\x01" + EMPTY + b"R",
    "by a wide extension": b"\x84\x01\x00\x00\x00" + EMPTY + b"R",
    "as a storage": b"(" + text("storage") + SPRING + text("0") + text("cpu") + b"K\x02tQ",
    "as a persistent id": SPRING + b"Q",
    "as a module's class": b"(" + text("module") + CLASS + text("a.py") + text("code") + b"tQ" + EMPTY + b"\x81",
    "as hooks of a tensor": b"ctorch._utils\n_rebuild_parameter\n(h\x0d\x89" + SPRING + EMPTY + b"RtR",
    "as the class of a tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n(h\x02" + CLASS + b"h\x0c}tR",
    "as attributes": b"ctorch._utils\n_rebuild_parameter_with_state\n(h\x0d\x89N}" + text("x") + SPRING + b")RstR",
    "as a layout": b"ctorch._utils\n_rebuild_sparse_tensor\n" + SPRING + b"h\x0d\x86R",
    "as a dtype": b"ctorch._utils\n_rebuild_tensor_v3\n(NK\x00))\x89N" + SPRING + b"tR",
    "as a key": b"}" + SPRING + EMPTY + b"RK\x01s",
    "in a set": b"\x8f(" + SPRING + EMPTY + b"R\x90",
    "in an ordered dict": b"ccollections\nOrderedDict\n]K\x01" + SPRING + b"\x86a\x85R",
    "as its attributes": b"ccollections\nOrderedDict\n)R}" + text("a") + SPRING + EMPTY + b"Rsb",
    "as its metadata": b"ccollections\nOrderedDict\n)R}" + text("_metadata") + SPRING + EMPTY + b"Rsb",
    "reconstructed": b"ccopy_reg\n_reconstructor\n" + CLASS + b"c__builtin__\nobject\nN\x87R",
    "in numpy": b"cnumpy\ndtype\n" + text("O8") + b"\x85R(K\x03" + text("|") + SPRING + b"NNK\x01K\x00K?tb",
    "default of a defaultdict": b"ccollections\ndefaultdict\n" + SPRING + b"\x85R",
    "in a function of torch": b"ctorch\nSize\n" + SPRING + EMPTY + b"R\x85R",
    "a name that torch may import": b"ctorch\nload\n" + text("/etc/passwd") + b"\x85R",
}


REFUSED = {
    "call, thrown away", "call, thrown away with a mark", "call, kept in the memo alone", "name, thrown away",
    "by an extension", "by a wide extension", "as a storage", "as a persistent id", "as its metadata",
}  # fmt: skip
"""What no file needs: these are refused altogether, and all others carried."""


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CRAFTED)
def test_nothing_is_run(tmp_path: Path, name: str, protocol: int) -> None:
    seed = next(s for s in seeds() if len(s.storages) == 1)  # a dict whose first tensor is 13 in the memo
    begun = [bytes([0x80, protocol]), *seed.tokens[1 : seed.tokens.index(b"q\x0d") + 1]]
    data = as_archive(b"".join(begun) + text("payload") + CRAFTED[name] + b"u.", seed.storages)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        readable = attempt(data, tmp_path / "in.pth")
    assert readable == (name not in REFUSED)
    out = tmp_path / "out.pth"
    with contextlib.suppress(StatexError):
        statex.convert(tmp_path / "in.pth", out, "root '' -> ''", keep_foreign=True)
        assert any(word in out.read_bytes() for word in (b"spring", b"Trap", b"torch\nload"))
    assert out.exists() == (name not in REFUSED)
    assert TRAP not in sys.modules


def test_the_trap_works(tmp_path: Path) -> None:
    """Where something is run, the checks above see it."""
    assert TRAP not in sys.modules
    try:
        pickle.loads(b"\x80\x02" + CRAFTED["call"] + b".")
        assert TRAP in sys.modules
        with pytest.raises(AssertionError):
            attempt(as_archive(b"\x80\x02}.", {}), tmp_path / "in.pth")
    finally:
        sys.modules.pop(TRAP, None)


# --- time and memory --------------------------------------------------------------------------------------------

REPEATED = 20_000
MANY = {
    "containers": b"]" * 7_000_000,
    "sets": b"\x8f0" * 7_000_000,
    "tuples": b")" + b"2\x86" * 7_000_000,
    "marks": b"(" * 7_000_000,
    "numbers": b"K\x01" * 5_000_000,
    "a set of a list that is there": b"](" + b"K\x01" * 5000 + b"e\x85q\x01c__builtin__\nset\nq\x02"
    + b"h\x02h\x01R0" * REPEATED,
    "bytes of a text that is there": b"c_codecs\nencode\nq\x01" + text("a" * 1_000_000) + text("latin1") + b"\x86q\x02"
    + b"h\x01h\x02R0" * REPEATED,
    "an ordered dict of pairs that are there": b"](" + b"NN\x86" * 5000 + b"e\x85q\x01ccollections\nOrderedDict\nq\x02"
    + b"h\x02h\x01R0" * REPEATED,
    "metadata that is there": b"}(" + b"".join(text(f"{n}") + b"}" for n in range(5000)) + b"uq\x01}"
    + text("_metadata") + b"h\x01sq\x02ccollections\nOrderedDict\n)R" + b"h\x02b" * REPEATED,
    "a key that is there": b"(" + b"K\x01" * 900 + b"tq\x01}" + b"h\x01Ns" * REPEATED,
    "a call of what is there": b"](" + b"K\x01" * 5000 + b"e\x85q\x01ctorch\nSize\nq\x02" + b"h\x02h\x01R0" * REPEATED,
    "complex keys": b"c__builtin__\ncomplex\nq\x01}" + b"".join(
        b"h\x01G%bG%b\x86RNs" % (struct.pack(">d", -1000003.0 * n), struct.pack(">d", float(n)))
        for n in range(REPEATED)
    ),
    "keys that hash alike": b"}" + b"".join(
        b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"Ns" for n in range(REPEATED)
    ),
}  # fmt: skip
"""Pickles that would take much more time or memory than they have bytes."""
IN_A_PROCESS = """
import resource, sys, statex
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
try:
    statex.read_header(sys.argv[1])
except statex.StatexError as error:
    print(error.diagnostics[0].code.id)
"""


@pytest.mark.parametrize("name", MANY)
def test_time_and_memory_are_bounded(tmp_path: Path, name: str) -> None:
    (tmp_path / "in.pth").write_bytes(as_archive(b"\x80\x02" + MANY[name] + b".", {}))
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path / "in.pth")]
    env = {"PYTHONPATH": str(Path(statex.__file__).parent.parent)}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("SX604", "")
