"""Objects of classes that statex does not know: carried in torch files, left out where asked, and never made."""

from __future__ import annotations

import argparse
import collections
import copy
import datetime
import enum
import functools
import io
import pickle
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file

import statex
from statex import StatexError
from statex.session.conversion import carry_out
from statex.session.request import InputSpec, OutputSpec, Policy, Request
from tests.checkpoint.archives import Record, archive, records_of
from tests.checkpoint.symbolic import symbols

RENAME = "rename prefix '' -> 'm.'"


class Config:
    """A class that only this test has."""

    class Inner:
        """Named with a dot."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


class Table(dict[str, Any]):
    """A dict of its own."""


class Row(list[Any]):
    """A list of its own."""


class Colour(enum.Enum):
    RED = 1


class Keyed:
    """Made with keywords."""

    def __new__(cls, *, size: int) -> Keyed:
        return object.__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (), {"size": 3}


def collected(items: list[Any]) -> Config:
    return Config(items=items)


def set_state(target: Any, state: Any) -> None:
    target.set_by = state


class Setter:
    """Whose state a function of its own sets."""

    def __reduce__(self) -> Any:
        return Config, (), {"a": 1}, None, None, set_state


class Everything:
    """That is reduced to all that can be reduced to."""

    def __init__(self, *given: Any) -> None:
        self.given = [given]

    def extend(self, items: Any) -> None:
        self.given.append(items)

    append = extend

    def __setitem__(self, key: str, item: Any) -> None:
        self.given.append((key, item))

    def __reduce__(self) -> Any:
        return Everything, ([1],), {"state": 2}, iter([3, 4]), iter({"k": 5}.items())


def _cyclic() -> Config:
    one, other = Config(), Config()
    one.other, other.items = other, [one, {"one": one, "both": (one, other)}]
    return one


def _in_a_tuple(length: int) -> tuple[Any, ...]:
    """Return a tuple that what stands in it holds, so that it is made before it is finished."""
    one = Config()
    one.inside = (one, 1, "two", None)[:length]
    return one.inside


def _deep(levels: int = 80) -> Config:
    made = Config(inside=None)
    for _ in range(levels):
        made = Config(inside=[made])
    return made


HARMLESS: dict[str, Any] = {
    "namespace": argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=[1, None])),
    "datetime": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC),
    "timedelta": datetime.timedelta(days=3),
    "path": Path("runs/1"),
    "pure path": PurePosixPath("/a/b"),
    "deque": collections.deque([1, "two"], maxlen=5),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "nested defaultdict": collections.defaultdict(int, {"a": 1}),
    "frozenset": frozenset([1]),
    "bytesio": io.BytesIO(b"extra"),
    "scalar": numpy.float64(0.9),
    "bool": numpy.bool_(True),
    "array": numpy.arange(6, dtype=">i2").reshape(2, 3),
    "fortran": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    "texts": numpy.array(["ab", "c"]),
    "objects": numpy.array([{"a": 1}, None], dtype=object),
    "dtype": numpy.dtype("float32"),
    "numpy rng": numpy.random.RandomState(3).get_state(),
    "python rng": random.Random(3).getstate(),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "object": lambda: Config(a=1, b=[Config(c=2)]),
    "class": lambda: Config,
    "inner": Config.Inner,
    "slots": lambda: Slotted(1, Slotted(2, None)),
    "dict": lambda: Table(a=1, b=Table(c=[2])),
    "list": lambda: Row([1, Row([2]), *range(2000)]),
    "enum": lambda: Colour.RED,
    "enum as a key": lambda: {Colour.RED: 1, (Colour.RED, 2): 3},
    "enums in a set": lambda: {Colour.RED, 1},
    "partial": lambda: functools.partial(set_state, 1, state=Config(a=1)),
    "keywords": lambda: Keyed(size=3),
    "setter": Setter,
    "everything": Everything,
    "cyclic": _cyclic,
    "in its set": lambda: (lambda one: vars(one).update(all={one, 1}) or one.all)(Config()),
    "in a list in its tuple": lambda: (lambda one: vars(one).update(all=([one], 1)) or one.all)(Config()),
    **{f"in a tuple of {length}": lambda length=length: _in_a_tuple(length) for length in (1, 3, 4)},
    "deep": _deep,
    "shared": lambda: (lambda one: [one, one, {"again": one}])(Config(a=1)),
    "structured": lambda: numpy.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
    "moment": lambda: numpy.datetime64("2024-05-06"),
    "generator": lambda: numpy.random.default_rng(1),
    "odd default": lambda: collections.defaultdict(functools.partial(dict, a=1), {"a": 1}),
    "mapped": lambda: Config(numbers=numpy.arange(3), when=datetime.date(2024, 5, 6)),
}


def saved(path: Path, protocol: int = 2, **around: Any) -> Path:
    state = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}
    torch.save({"state_dict": state, **around}, path, pickle_protocol=protocol)
    return path


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, numpy.ndarray):
        return one.dtype == other.dtype and one.flags.fnc == other.flags.fnc and equal(one.tolist(), other.tolist())
    if isinstance(one, io.BytesIO):
        return one.getvalue() == other.getvalue()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return type(one) is type(other) and bool(one == other)


# --- what is harmless -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_values_are_kept_by_themselves(tmp_path: Path, name: str, protocol: int) -> None:
    source = saved(tmp_path / "in.pth", protocol, value=HARMLESS[name], nested={"here": [HARMLESS[name], 1]})
    value = torch.load(source, weights_only=False)["value"]
    done = statex.convert(source, tmp_path / "out.pth", RENAME, root="state_dict", verify_written=True)
    assert [one.code.id for one in done.warnings] == []
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert list(found["state_dict"]) == ["m.w", "m.b"]
    assert equal(found["value"], value)
    assert equal(found["nested"]["here"][0], value)
    assert symbols(tmp_path / "out.pth")[-20:] == symbols(source)[-20:]


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_stopped_at_with_both_ways_out(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path / "in.pth", 4, value=OTHERS[name](), nested={"here": OTHERS[name]()})
    with pytest.raises(StatexError) as caught:
        statex.convert(source, tmp_path / "out.pth", RENAME)
    assert [one.code.id for one in caught.value.diagnostics] == ["SX640"]
    said = str(caught.value)
    assert "drop value('value'); drop value('nested.here')" in said
    assert "keep_foreign=True" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", OTHERS)
def test_others_are_kept_as_equal_pickles(tmp_path: Path, name: str, protocol: int) -> None:
    if name == "inner" and protocol < 4:
        protocol = 4  # before that, it is a call of getattr
    source = saved(tmp_path / "in.pth", protocol, value=OTHERS[name](), after=[1, {"two": 2}])
    done = statex.convert(source, tmp_path / "out.pth", "", keep_foreign=True, verify_written=True)
    assert [one.code.id for one in done.warnings] == ["SX912"]
    assert "as dangerous" in str(done.warnings[0].notes)
    assert symbols(tmp_path / "out.pth") == symbols(source)
    torch.load(tmp_path / "out.pth", weights_only=False)
    # What was written is read again, and written the same.
    statex.convert(tmp_path / "out.pth", tmp_path / "again.pth", "", keep_foreign=True)
    assert symbols(tmp_path / "again.pth") == symbols(source)


def test_what_is_made_of_a_list_that_holds_it(tmp_path: Path) -> None:
    """No pickler writes this, and every one reads it."""
    source = saved(tmp_path / "in.pth", value=Config(a=1))
    pickled = next(r.data for r in records_of(source) if r.name.endswith("data.pkl"))
    call = f"c{__name__}\ncollected\n(]r\xff\xff\0\0".encode("latin-1") + b"tRr\xfe\xff\0\0j\xff\xff\0\0j\xfe\xff\0\0a0"
    made = pickled[:-1] + b"X\x04\0\0\0loop" + call + b"s."
    source.write_bytes(archive([Record(r.name, made) if r.data == pickled else r for r in records_of(source)]))
    statex.convert(source, tmp_path / "out.pth", "", keep_foreign=True, verify_written=True)
    found = torch.load(tmp_path / "out.pth", weights_only=False)["loop"]
    assert found.items[0] is found


def test_a_nested_class_by_an_older_protocol(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", 2, value=Config.Inner())
    assert statex.read_header(source).around == ("value",)
    statex.convert(source, tmp_path / "out.pth", "", keep_foreign=True)
    assert symbols(tmp_path / "out.pth") == symbols(source)
    assert type(torch.load(tmp_path / "out.pth", weights_only=False)["value"]) is Config.Inner


def test_long_chains_of_objects(tmp_path: Path) -> None:
    """Deeper than any that Python's pickler would write by itself, which calls itself for each level."""
    source = saved(tmp_path / "in.pth", value=_deep(2))
    pickled = next(r.data for r in records_of(source) if r.name.endswith("data.pkl"))
    levels = 10_000
    cls = f"c{Config.__module__}\nConfig\n".encode()
    chain = b"(" + (cls + b")\x81}X\x06\x00\x00\x00inside") * levels + b"N" + b"sb" * levels
    chained = pickled[:-1] + b"X\x05\x00\x00\x00chain" + chain[1:] + b"s."
    source.write_bytes(archive([Record(r.name, chained) if r.data == pickled else r for r in records_of(source)]))
    statex.convert(source, tmp_path / "out.pth", RENAME, keep_foreign=True, verify_written=True)
    statex.convert(tmp_path / "out.pth", tmp_path / "again.pth", "", keep_foreign=True)
    assert symbols(tmp_path / "again.pth") == symbols(tmp_path / "out.pth")
    assert len(symbols(tmp_path / "out.pth")) > 4 * levels


# --- left out ---------------------------------------------------------------------------------------------------


def test_the_bare_state_goes_anywhere(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=Config(a=1), best=numpy.float64(0.9))
    rules = "root 'state_dict' -> ''; rename w -> v"
    plan = statex.compile(rules).plan(source)
    assert plan.left_around == ("args", "best")
    assert plan.warnings == ()
    statex.convert(source, tmp_path / "out.pth", rules)
    assert list(torch.load(tmp_path / "out.pth")) == ["v", "b"]
    statex.convert(source, tmp_path / "out.safetensors", rules)
    assert set(load_file(tmp_path / "out.safetensors")) == {"v", "b"}


def test_safetensors_has_no_place_for_them(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=argparse.Namespace(a=1))
    with pytest.raises(StatexError, match="root 'state_dict' -> ''") as caught:
        statex.convert(source, tmp_path / "out.safetensors", "")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX614"]


def test_entries_of_a_state_are_dropped_by_their_keys(tmp_path: Path) -> None:
    state = {"fc.w": torch.ones(2), "fc._extra_state": Config(a=1), "fc.more": argparse.Namespace(a=1)}
    torch.save(state, tmp_path / "in.pth")
    with pytest.raises(StatexError, match=r"drop fc\._extra_state") as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX640"]
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "drop fc._extra_state")
    assert torch.load(tmp_path / "out.pth", weights_only=False)["fc.more"] == argparse.Namespace(a=1)
    statex.convert(tmp_path / "in.pth", tmp_path / "kept.pth", RENAME, keep_foreign=True)
    assert vars(torch.load(tmp_path / "kept.pth", weights_only=False)["m.fc._extra_state"]) == {"a": 1}


def test_attributes_of_tensors(tmp_path: Path) -> None:
    made = torch.nn.Parameter(torch.ones(2))
    made.config = Config(a=1)  # type: ignore[attr-defined]
    torch.save({"w": made}, tmp_path / "in.pth")
    with pytest.raises(StatexError, match=r"write \.safetensors") as caught:
        statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "")
    assert [one.code.id for one in caught.value.diagnostics] == ["SX640"]
    statex.convert(tmp_path / "in.pth", tmp_path / "out.safetensors", "set w = it * 2")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "set w = it * 2", keep_foreign=True)
    assert vars(torch.load(tmp_path / "out.pth", weights_only=False)["w"].config) == {"a": 1}


def test_values_that_a_plan_drops(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=Config(a=1), hyper={"cfg": Config(a=2), "lr": 0.1})
    request = Request(InputSpec(source), outputs=(OutputSpec(tmp_path / "out.pth"),), policy=Policy(dry_run=True))
    with pytest.raises(StatexError, match="SX640"):
        carry_out(request)
    statex.convert(source, tmp_path / "out.pth", "drop value('args'), value('hyper.cfg')")
    content = torch.load(tmp_path / "out.pth")
    assert list(content) == ["state_dict", "hyper"]
    assert content["hyper"] == {"lr": 0.1}


# --- tensors inside ---------------------------------------------------------------------------------------------


def test_tensors_inside_travel_along(tmp_path: Path) -> None:
    state = {"w": torch.randn(3, 4), "b": torch.randn(5)}
    ema = Config(shadow=dict(state, extra=torch.randn(2)), views=[state["w"][1:], torch.randn(4, 6)[:, :2]])
    torch.save({"state": state, "ema": ema}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", RENAME, keep_foreign=True, verify_written=True)
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    shadow = found["ema"].shadow
    assert shadow["w"] is found["state"]["m.w"]
    assert torch.equal(shadow["extra"], ema.shadow["extra"])
    assert all(map(torch.equal, found["ema"].views, ema.views))
    assert found["ema"].views[0].untyped_storage().data_ptr() == shadow["w"].untyped_storage().data_ptr()
    sizes = [info.file_size for info in zipfile.ZipFile(tmp_path / "out.pth").infolist() if "/data/" in info.filename]
    assert sorted(sizes) == [8, 20, 32, 48]


def test_an_old_file_of_a_module(tmp_path: Path) -> None:
    """Before torch 1.6, classes of modules were saved as persistent ids, with their source."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    content = {"state": model.state_dict(), "model": model}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, tmp_path / "in.pth", _use_new_zipfile_serialization=False)
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", RENAME, keep_foreign=True)
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert type(found["model"][0]) is torch.nn.Linear
    assert torch.equal(found["model"][0].weight, model[0].weight)


# --- what is said -----------------------------------------------------------------------------------------------


def test_plan_says_what_apply_would_stop_at(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=Config(a=1))
    (warning,) = statex.compile(RENAME).plan(source).warnings
    assert warning.code.id == "SX912"
    assert f"`args` (<{Config.__module__}.Config>)" in warning.headline
    assert "drop value('args')" in str(warning.notes)


def test_what_namespaces_hold_can_be_asked_for(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=argparse.Namespace(heads=4, names=["a"], deep=Config()))
    assert dict(statex.read_header(source).values) == {"args.heads": 4, "args.names": ["a"]}
    rules = "root 'state_dict' -> ''; set b = it * value('args.heads')"
    statex.convert(source, tmp_path / "out.pth", rules)
    assert torch.equal(torch.load(tmp_path / "out.pth")["b"], torch.full((4,), 4.0))


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Config(a=1), f"{Config.__module__}.Config"),
        (Slotted(1, 2), f"{Config.__module__}.Slotted"),
        (Colour.RED, f"{Config.__module__}.Colour"),
        (Config, f"{Config.__module__}.Config"),
        (numpy.float64(1), "numpy scalar"),
        (numpy.ones(2), "numpy.ndarray"),
        (functools.partial(set_state, 1), "functools.partial"),
        (Config.Inner(), f"{Config.__module__}.Config.Inner"),
    ],
)
def test_names(tmp_path: Path, value: Any, name: str) -> None:
    for protocol in (2, 4):
        found = statex.compile("").apply(saved(tmp_path / "in.pth", protocol, value=value))["value"]
        assert isinstance(found, statex.Foreign)
        assert found.name == name
        assert repr(found) == f"<statex.Foreign {name}>"


# --- inert in Python --------------------------------------------------------------------------------------------


def test_foreign_values_are_inert(tmp_path: Path) -> None:
    source = saved(tmp_path / "in.pth", args=Config(a=1))
    found = statex.compile(RENAME).apply(source)
    args = found["args"]
    assert isinstance(args, statex.Foreign)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(args)
    with pytest.raises(TypeError, match="cannot be pickled"):
        torch.save(found, tmp_path / "out.pth")
    assert copy.deepcopy(found)["args"] is args
    torch.save({"w": torch.ones(2), "x": Config(a=1)}, source)
    with statex.open(source) as checkpoint:
        assert isinstance(checkpoint["x"], statex.Foreign)


def test_a_model_is_not_given_foreign_entries(tmp_path: Path) -> None:
    class Extra(torch.nn.Linear):
        def get_extra_state(self) -> Any:
            return 1

        def set_extra_state(self, state: Any) -> None:
            raise AssertionError("this is nobody's to load")

    state = dict(Extra(2, 3).state_dict(), _extra_state=Config(a=1))
    torch.save(state, tmp_path / "in.pth")
    target = Extra(2, 3)
    done = statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", "", target=target, keep_foreign=True)
    assert done.comparison is not None
    assert done.comparison.fits
    statex.verify(tmp_path / "in.pth", target)


def test_a_state_in_memory_with_foreign_values_can_be_written(tmp_path: Path) -> None:
    found = statex.compile("").apply(saved(tmp_path / "in.pth", args=Config(a=[1, Config()])))
    statex.convert(found, tmp_path / "out.pth", RENAME, keep_foreign=True)
    assert torch.load(tmp_path / "out.pth", weights_only=False)["args"].a[0] == 1


def test_attributes_of_ordered_dicts_are_kept(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    state.made_by = "trainer"  # type: ignore[attr-defined]
    around = collections.OrderedDict(lr=0.1)
    around.config = argparse.Namespace(a=1)  # type: ignore[attr-defined]
    torch.save({"model": state, "around": around}, tmp_path / "in.pth")
    statex.convert(tmp_path / "in.pth", tmp_path / "out.pth", RENAME)
    found = torch.load(tmp_path / "out.pth", weights_only=False)
    assert found["model"].made_by == "trainer"
    assert found["model"]._metadata == {"m": {"version": 2}} or "_metadata" in vars(found["model"])
    assert found["around"].config == argparse.Namespace(a=1)


def test_tensors_of_a_file_that_was_closed(tmp_path: Path) -> None:
    found = statex.compile("").apply(saved(tmp_path / "in.pth", value=Config(mean=torch.ones(50_000))))
    with pytest.raises(StatexError, match="was closed") as caught:
        statex.convert(found, tmp_path / "out.pth", RENAME, keep_foreign=True)
    assert [one.code.id for one in caught.value.diagnostics] == ["SX601"]
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_memory_is_stated_for_large_values_too(tmp_path: Path, protocol: int) -> None:
    source = saved(tmp_path / "in.pth", protocol, buffer=numpy.random.default_rng(0).random(6_000_000))
    code = (
        "import sys, statex;"
        "done = statex.convert(sys.argv[1], sys.argv[2], 'rename w -> v', root='state_dict');"
        "print(done.plan.cost.memory);"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    env = {"PYTHONPATH": str(Path(statex.__file__).parent.parent)}
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out.pth")]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stated, peak = map(int, done.stdout.split())
    assert peak * 1024 <= stated <= 4 * peak * 1024
