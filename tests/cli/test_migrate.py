"""`statex migrate` and `statex migrate new`: what they write, what they print, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

import statex
from tests.cli.conftest import Run
from tests.migrating.nets import STEPS, Net, Outer, same_forward, trained

NAMES = [f"{name}.sx" for name in STEPS]
TOTALS = "11 keys in, 9 out (276 B): 4 computed, 5 moved, 0 untouched, 0 dropped, 6 used"


@pytest.fixture(autouse=True)
def chain(run: Run) -> None:
    """The chain of `nets` in `migrations`, and states of layout 0 in `old.pth` and, as a plain dict, `plain.pth`."""
    Path("migrations").mkdir()
    for name, text in STEPS.items():
        Path(f"migrations/{name}.sx").write_text(f"{text}\n")
    state = trained(Net(0)).state_dict()
    torch.save(state, "old.pth")
    torch.save(dict(state), "plain.pth")
    text = "from tests.migrating.nets import Net, Outer\n\ndef outer():\n    return Outer(Net())\n"
    Path("chained.py").write_text(text)


def read(path: str) -> Any:
    return torch.load(path, weights_only=True)


# --- up and down ------------------------------------------------------------------------------------------------------


def test_what_is_said_and_written(run: Run) -> None:
    ended = run("migrate", "old.pth", "new.pth", "-D", "scale=4", "--target", "chained:Net")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "layout 0 (recognised by its keys and shapes) to 3: 0001_rename_norm.sx, 0002_fuse_qk.sx and "
        "0003_scale_head.sx",
        TOTALS,
        "verified against Net: all 9 keys agree",
        "wrote new.pth",
        "layout 3 is noted in the output",
    ]
    state = read("new.pth")
    noted = state._metadata[""]["statex"]
    assert noted == {
        "scheme": 1, "version": 3, "digests": list(statex.migrations("migrations").digests), "params": {"scale": 4.0},
    }  # fmt: skip
    assert torch.equal(state["out.fc.weight"], read("old.pth")["head.weight"] * 4)


def test_it_goes_on_from_what_is_noted(run: Run) -> None:
    run("migrate", "old.pth", "1.pth", "--to", "1", "-D", "scale=4")
    ended = run("migrate", "1.pth", "3.pth", "--from", "0")
    assert ended.out.splitlines() == [
        "layout 1 (noted in it) to 3: 0002_fuse_qk.sx and 0003_scale_head.sx",
        "--from 0 was not needed: it is for checkpoints that carry no version",
        "11 keys in, 9 out (276 B): 4 computed, 0 moved, 5 untouched, 0 dropped, 6 used",
        "wrote 3.pth",
        "layout 3 is noted in the output",
    ]
    run("migrate", "old.pth", "once.pth", "-D", "scale=4")
    one, other = read("3.pth"), read("once.pth")
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert one._metadata == other._metadata


def test_a_plain_dict_stays_one(run: Run) -> None:
    ended = run("migrate", "plain.pth", "new.pth")
    assert ended.exit_code == 0
    assert ended.out.splitlines()[-2:] == [
        "wrote new.pth",
        "layout 3 is not noted: the state is a plain dict without `_metadata`, which has no place for it; next time it "
        "is recognised, or --from 3 says it",
    ]
    assert type(read("new.pth")) is dict
    again = run("migrate", "new.pth", "again.pth")
    assert again.out.splitlines()[0] == "layout 3 (recognised by its keys and shapes) already: no step is carried out"
    assert Path("again.pth").exists()


def test_a_way_back(run: Run) -> None:
    run("migrate", "old.pth", "new.pth", "-D", "scale=4")
    ended = run("migrate", "new.pth", "back.pth", "--to", "1")
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err == (
        "error[SX822]: nothing undoes step 3, `0003_scale_head.sx`: there is no `migrations/0003_scale_head.down.sx`\n"
        "  = help: write migrations/0003_scale_head.down.sx: rules that make layout 2 of layout 3\n"
        "  = help: or name a target, the model or a checkpoint of layout 1, from which the inverse is derived\n"
        "\n"
        "error[SX822]: nothing undoes step 2, `0002_fuse_qk.sx`: there is no `migrations/0002_fuse_qk.down.sx`\n"
        "  = help: write migrations/0002_fuse_qk.down.sx: rules that make layout 1 of layout 2\n"
        "  = help: or name a target, the model or a checkpoint of layout 1, from which the inverse is derived\n"
        "\n"
        "2 errors\n"
    )
    Path("migrations/0003_scale_head.down.sx").write_text(
        "param scale: float = 2\nrename part out.fc -> head\nset head.** = it / scale\n"
    )
    Path("migrations/0002_fuse_qk.down.sx").write_text("split qk.{t:weight|bias} -> q.{t}, k.{t} = chunk(2)\n")
    ended = run("migrate", "new.pth", "back.pth", "--to", "1")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "layout 3 (noted in it) to 1: 0003_scale_head.down.sx and 0002_fuse_qk.down.sx"
    old, back = read("old.pth"), read("back.pth")
    assert set(back) == set(Net(1).state_dict())
    assert all(torch.equal(back[key.replace("bn.", "norm.")], old[key]) for key in old)
    assert (
        run("migrate", "back.pth", "--status").out.splitlines()[0]
        == "back.pth: layout 1 of 3 in migrations, noted in it"
    )


def test_a_dry_run(run: Run) -> None:
    ended = run("migrate", "old.pth", "new.pth", "--dry-run", "--to", "2")
    assert ended.exit_code == 0
    assert ended.out.splitlines()[:2] == [
        "layout 0 (recognised by its keys and shapes) to 2: 0001_rename_norm.sx and 0002_fuse_qk.sx",
        "  migrations/0001_rename_norm.sx:1  rename part bn -> norm                                 5 renamed",
    ]
    assert ended.out.splitlines()[-1] == "dry run: new.pth was not written"
    assert not Path("new.pth").exists()


def test_json_and_quiet(run: Run) -> None:
    found = run("migrate", "old.pth", "new.pth", "--json", "-D", "scale=4").json
    assert found["ok"] is True
    assert found["output"] == "new.pth"
    assert found["migration"] == {
        "chain": "migrations", "at": "", "from": 0, "known": "recognised", "to": 3, "steps": NAMES, "noted": True,
        "params": {"scale": 4.0},
    }  # fmt: skip
    assert run("migrate", "plain.pth", "p.pth", "--json").json["migration"]["noted"] is False
    ended = run("migrate", "old.pth", "quiet.pth", "-q")
    assert (ended.exit_code, ended.out, ended.err) == (0, "", "")


def test_warnings_of_steps_can_be_errors(run: Run) -> None:
    Path("migrations/0004_wide.sx").write_text("set norm.num_batches_tracked = cast(f32)\n")
    ended = run("migrate", "old.pth", "new.pth", "-W", "error")
    assert ended.exit_code == 1
    assert "SX902" in ended.err
    assert not Path("new.pth").exists()


# --- formats ----------------------------------------------------------------------------------------------------------


def _torch(state: Any, path: str) -> str:
    torch.save(state, f"{path}.pth")
    return f"{path}.pth"


def _safetensors(state: Any, path: str) -> str:
    save_file(state, f"{path}.safetensors")
    return f"{path}.safetensors"


def _legacy(state: Any, path: str) -> str:
    torch.save(state, f"{path}.pt", _use_new_zipfile_serialization=False)
    return f"{path}.pt"


def _dcp(state: Any, path: str) -> str:
    dcp.save(dict(state), checkpoint_id=path, no_dist=True)
    return path


@pytest.mark.parametrize("write", [_torch, _safetensors, _legacy, _dcp])
@pytest.mark.parametrize("output", ["out.pth", "out.safetensors", "shards/"])
@pytest.mark.parametrize("layout", [0, 2])
@pytest.mark.filterwarnings("ignore:.*:UserWarning:torch")
def test_formats(write: Any, output: str, layout: int, run: Run) -> None:
    old = trained(Net(layout))
    name = write(old.state_dict(), "in")
    options = ["--shard-size", "100B", "--format", "safetensors"] if output.endswith("/") else []
    ended = run("migrate", name, output, "--target", "chained:Net", *options)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.startswith(f"layout {layout} (recognised by its keys and shapes) to 3: ")
    files = Path(output).glob("*.safetensors") if output.endswith("/") else [Path(output)]
    state: dict[str, torch.Tensor] = {}
    for file in files:
        state |= load_file(file) if file.suffix == ".safetensors" else read(str(file))
    new = Net()
    new.load_state_dict(state)
    assert same_forward(old, new)


def test_a_nested_checkpoint_with_the_module_inside(run: Run) -> None:
    outer = trained(Outer(Net(0)))
    torch.save({"epoch": 3, "model": {"weights": outer.state_dict()}, "optimizer": {"lr": 0.1}}, "nested.ckpt")
    ended = run("migrate", "nested.ckpt", "out.ckpt", "--at", "parts")
    assert ended.exit_code == 1
    assert "  = help: --at parts.net   the keys below it fit the chain\n" in ended.err
    ended = run("migrate", "nested.ckpt", "out.ckpt", "--at", "parts.net", "--target", "chained:outer")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines()[0].startswith("parts.net: layout 0 (recognised by its keys and shapes) to 3: ")
    found = read("out.ckpt")
    assert (found["epoch"], found["optimizer"]) == (3, {"lr": 0.1})
    new = Outer(Net())
    new.load_state_dict(found["model"]["weights"])
    assert same_forward(outer, new)
    ended = run("migrate", "out.ckpt", "--status", "--root", "model.weights")
    assert ended.out.splitlines()[0] == "parts.net in out.ckpt: layout 3 of 3 in migrations, noted in it"


# --- status -----------------------------------------------------------------------------------------------------------


def test_status(run: Run) -> None:
    ended = run("migrate", "old.pth", "--status")
    assert (ended.exit_code, ended.err) == (1, "")
    assert ended.out.splitlines() == [
        "old.pth: layout 0 of 3 in migrations, recognised by its keys and shapes",
        "  1  0001_rename_norm.sx  pending",
        "  2  0002_fuse_qk.sx      pending",
        "  3  0003_scale_head.sx   pending",
        "3 steps pending",
    ]
    run("migrate", "old.pth", "2.pth", "--to", "2", "-D", "scale=4")
    ended = run("migrate", "2.pth", "--status")
    assert ended.exit_code == 1
    assert ended.out.splitlines() == [
        "2.pth: layout 2 of 3 in migrations, noted in it",
        "  1  0001_rename_norm.sx  done",
        "  2  0002_fuse_qk.sx      done",
        "  3  0003_scale_head.sx   pending",
        "  noted: scale = 4.0",
        "1 step pending",
    ]
    run("migrate", "2.pth", "3.pth")
    ended = run("migrate", "3.pth", "--status")
    assert (ended.exit_code, ended.out.splitlines()[-1]) == (0, "no step is pending")
    assert run("migrate", "3.pth", "--status", "-q").out == ""


def test_status_as_json(run: Run) -> None:
    ended = run("migrate", "old.pth", "--status", "--json", "--chain", "migrations")
    assert ended.exit_code == 1
    steps = [{"number": number, "name": name, "done": False} for number, name in enumerate(NAMES, 1)]
    assert ended.json == {
        "ok": True, "chain": "migrations", "at": "", "layout": 0, "known": "recognised", "last": 3, "pending": 3,
        "steps": steps, "params": {}, "diagnostics": [], "warnings": [],
    }  # fmt: skip


def test_status_that_is_unknown(run: Run) -> None:
    torch.save({"module.q.weight": torch.ones(2, 2)}, "other.pth")
    Path("migrations/0001_rename_norm.sx").write_text("set q.weight = transpose\n")
    for name in NAMES[1:]:
        Path(f"migrations/{name}").unlink()
    ended = run("migrate", "other.pth", "--status")
    assert (ended.exit_code, ended.out) == (1, "other.pth: the layout is unknown; migrations has the layouts 0 to 1\n")
    assert ended.err == (
        "error[SX821]: `other.pth` carries no version, and its keys fit no layout of `migrations`\n"
        "  layout 0  0001_rename_norm.sx:1: pattern matches no key\n"
        "  layout 1  no step is left, but it has no key that the steps make\n"
        "  = help: --at module   the keys below it fit the chain\n"
        "  = help: --from 1   if it is of layout 1\n"
        "  = help: --like FILE   or --target: the layout is that whose steps make what it has\n"
    )
    ended = run("migrate", "other.pth", "--status", "--at", "module", "--json")
    assert ended.exit_code == 1
    assert (ended.json["layout"], ended.json["known"]) == (None, "unknown")
    assert [one["code"] for one in ended.json["diagnostics"]] == ["SX806"]


def test_a_state_of_several_layouts(run: Run) -> None:
    Path("migrations/0002_fuse_qk.sx").write_text("set q.weight = it + 1\n")
    torch.save({"q.weight": torch.ones(2, 2)}, "other.pth")
    Path("migrations/0001_rename_norm.sx").write_text("set q.weight = transpose\n")
    Path("migrations/0003_scale_head.sx").write_text("rename q.weight -> head.weight\n")
    ended = run("migrate", "other.pth", "out.pth")
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == (
        "error[SX806]: `other.pth` carries no version, and could be of any of the layouts 0, 1 and 2\n"
        "  layout 0  0001_rename_norm.sx to 0003_scale_head.sx can be carried out on it\n"
        "  layout 1  0002_fuse_qk.sx to 0003_scale_head.sx can be carried out on it\n"
        "  layout 2  0003_scale_head.sx can be carried out on it\n"
        "  layout 3  it has `q.weight`, and 0001_rename_norm.sx to 0003_scale_head.sx would not leave it\n"
        "  = help: --from 0   if it is of layout 0\n"
        "  = help: --from 1   if it is of layout 1\n"
        "  = help: --from 2   if it is of layout 2\n"
        "  = help: --like FILE   or --target: the layout is that whose steps make what it has\n"
    )
    ended = run("migrate", "other.pth", "out.pth", "--from", "1")
    assert ended.exit_code == 0
    assert ended.out.startswith("layout 1 (as --from says) to 3: ")
    assert torch.equal(read("out.pth")["head.weight"], torch.full((2, 2), 2.0))


# --- errors -----------------------------------------------------------------------------------------------------------


def test_another_value_of_a_parameter(run: Run) -> None:
    run("migrate", "old.pth", "new.pth", "-D", "scale=4")
    ended = run("migrate", "new.pth", "out.pth", "-D", "scale=5")
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err == (
        "error[SX823]: `scale` is 5.0 now, and `new.pth` has been through its steps with 4.0\n"
        "  = help: leave it out: 4.0 is noted in the state, and holds for further steps\n"
    )
    Path("config.json").write_text('{"scale": 4, "further": [1]}')
    assert run("migrate", "new.pth", "out.pth", "--params", "config.json").exit_code == 0
    assert run("migrate", "new.pth", "--status", "-D", "0003_scale_head.scale=4").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["old.pth", "out.pth", "--from", "2"], 1,
         "error[SX807]: `--from` says layout 2, and `old.pth` fits layout 0 and not this one\n"
         "  = note: it has `bn.weight`, and 0001_rename_norm.sx to 0002_fuse_qk.sx would not leave it\n"),
        (["old.pth", "out.pth", "--to", "4"], 2,
         "error[SX812]: the chain `migrations` has no layout 4\n"
         "  = note: it has the layouts 0 to 3: 0 is before the first step, 3 after the last\n"),
        (["old.pth", "out.pth", "--at", "encoder"], 1, "error[SX825]: no key of `old.pth` is below `encoder`\n"),
        (["old.pth", "out.pth", "-D", "scal=3"], 2, "error[SX205]: there is no parameter `scal`\n"),
        (["old.pth", "out.pth", "--chain", "migratoins"], 3,
         "error[SX801]: the folder `migratoins` cannot be read: No such file or directory\n"),
        (["old.pth", "plain.pth"], 3, "error[SX610]: `plain.pth` exists\n"),
        (["none.pth", "out.pth"], 3, "error[SX601]"),
    ],
)  # fmt: skip
def test_errors(arguments: list[str], code: int, said: str, run: Run) -> None:
    ended = run("migrate", *arguments)
    assert (ended.exit_code, ended.out) == (code, "")
    assert ended.err.startswith(said)
    assert not Path("out.pth").exists()


def test_no_chain(run: Run) -> None:
    Path("migrations").rename("elsewhere")
    ended = run("migrate", "old.pth", "out.pth")
    assert (ended.exit_code, ended.out) == (3, "")
    assert ended.err == (
        "error[SX801]: no chain is named, and there is no folder `migrations` in the current one\n"
        "  = help: --chain DIR\n"
        '  = help: a chain begins with: statex migrate new "what changes"\n'
    )
    assert run("migrate", "old.pth", "out.pth", "--chain", "elsewhere").exit_code == 0


def test_several_places(run: Run) -> None:
    run("migrate", "old.pth", "new.pth")
    state = read("new.pth")
    stamp = state._metadata[""]["statex"]
    state._metadata["norm"]["statex"] = stamp
    torch.save(state, "both.pth")
    ended = run("migrate", "both.pth", "out.pth")
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err == (
        "error[SX824]: versions of `migrations` are noted for the whole state and `norm`: which one is meant?\n"
        "  = help: --at ''\n"
        "  = help: --at norm\n"
    )
    assert run("migrate", "both.pth", "out.pth", "--at", "").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old.pth"], "1 path was given; this takes IN OUT, or IN --status"),
        (["a", "b", "c"], "3 paths were given; this takes IN OUT, or IN --status"),
        ([], "0 paths were given"),
        (["old.pth", "out.pth", "--status"], "2 paths were given; beside --status this takes IN"),
        (["old.pth", "--status", "--to", "1"], "`--status` writes nothing, and `--to` is for an output"),
        (["old.pth", "--status", "--force"], "`--status` writes nothing, and `--force` is for an output"),
        (["old.pth", "out.pth", "--to", "last"], "`--to` takes the number of a layout, and got `last`"),
        (["rules.sx", "old.pth", "out.pth"], "`rules.sx` is a rule file: it is applied by `statex apply rules.sx"),
        (["--chain", "c", "new", "title"], "`new` stands right after `migrate`"),
        (["old.pth", ""], "argument 2 is empty"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, run: Run) -> None:
    ended = run("migrate", *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


# --- new --------------------------------------------------------------------------------------------------------------


def test_a_new_step(run: Run) -> None:
    ended = run("migrate", "new", "fuse  q/k (2)")
    assert (ended.exit_code, ended.out, ended.err) == (0, "wrote migrations/0004_fuse_q_k_2.sx\n", "")
    assert Path("migrations/0004_fuse_q_k_2.sx").read_text() == (
        "# fuse q/k (2)\n#\n# Makes layout 4 of layout 3. Rules that undo it go into 0004_fuse_q_k_2.down.sx.\n"
    )
    assert statex.migrations("migrations").version == 4
    assert run("migrate", "new", "fuse q/k (2)", "--json").json == {
        "ok": True, "path": "migrations/0005_fuse_q_k_2.sx", "warnings": [],
    }  # fmt: skip


def test_the_first_step(run: Run) -> None:
    ended = run("migrate", "new", "names", "--chain", "package/migrations")
    assert (ended.exit_code, ended.out) == (0, "wrote package/migrations/0001_names.sx\n")
    assert Path("package/migrations/0001_names.sx").exists()


def test_a_new_step_says_what_differs(run: Run) -> None:
    torch.save({f"layers.{i}.{n}": torch.randn(2, 2) for i in range(3) for n in "qkx"}, "a.pth")
    torch.save(
        {f"layers.{i}.{n}": torch.randn(5 if n == "qk" else 2, 2) for i in range(3) for n in ("qk", "x")}, "b.pth"
    )
    ended = run("migrate", "new", "fuse", "a.pth", "b.pth")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.endswith("\n  no rules were found that make the second checkpoint of the first\n")
    assert Path("migrations/0004_fuse.sx").read_text() == (
        "# fuse\n"
        "#\n"
        "# Makes layout 4 of layout 3. Rules that undo it go into 0004_fuse.down.sx.\n"
        "#\n"
        "#   only in a.pth  layers.{0..2}.q   f32[2, 2]  x 3\n"
        "#   only in a.pth  layers.{0..2}.k   f32[2, 2]  x 3\n"
        "#   only in b.pth  layers.{0..2}.qk  f32[5, 2]  x 3\n"
        "# 6 only in a.pth, 3 only in b.pth, 3 agree\n"
    )
    Path("migrations/0005_gap.sx").write_text("")
    Path("migrations/0004_fuse.sx").unlink()
    ended = run("migrate", "new", "x")
    assert (ended.exit_code, "SX803" in ended.err) == (2, True)


def layers(names: str, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{i}.{n}": torch.randn(2, 2) for i in range(3) for n in names}


def test_a_new_step_has_rules_that_are_proved(run: Run) -> None:
    old = layers("qkx", "layers")
    new = {f"h.{i}.x": old[f"layers.{i}.x"] for i in range(3)}
    new |= {f"h.{i}.qk": torch.cat([old[f"layers.{i}.q"], old[f"layers.{i}.k"]]) for i in range(3)}
    torch.save(old, "a.pth")
    torch.save(new, "b.pth")
    ended = run("migrate", "new", "fuse", "a.pth", "b.pth", "--chain", "chain")
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out == "wrote chain/0001_fuse.sx\n  its rules are inferred, and proved: 6 tensors equal in bits\n"
    assert run("migrate", "a.pth", "out.pth", "--chain", "chain").exit_code == 0
    made = read("out.pth")
    assert made.keys() == new.keys()
    assert all(torch.equal(made[key], value) for key, value in new.items())
    equal = run("migrate", "new", "again", "b.pth", "b.pth", "--chain", "chain").out
    assert equal == "wrote chain/0002_again.sx\n  the two checkpoints are equal: there are no rules in it\n"
    assert all(line.startswith("#") for line in Path("chain/0002_again.sx").read_text().splitlines())


def test_rules_that_are_guessed_stay_comments(run: Run) -> None:
    torch.save(layers("qkx", "layers"), "a.pth")
    torch.save(layers("qkx", "h"), "b.pth")
    ended = run("migrate", "new", "names", "a.pth", "b.pth", "--chain", "chain", "--json").json
    assert (ended["proved"], ended["rules"]) == (False, "")
    text = Path("chain/0001_names.sx").read_text()
    assert all(line.startswith("#") for line in text.splitlines())
    assert "# rename prefix 'layers.' -> 'h.'  # guess: 9 keys\n" in text


def test_no_file_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that another program makes between the look into the folder and the writing."""
    taken = Path("migrations/0004_mine.sx")
    taken.write_text("rename a -> b")
    monkeypatch.setattr("statex.cli.commands.migrate_new.next_step", lambda folder, title: taken)
    ended = run("migrate", "new", "mine")
    assert (ended.exit_code, ended.out) == (3, "")
    assert ended.err == "error[SX612]: `migrations/0004_mine.sx` cannot be written: File exists\n"
    assert taken.read_text() == "rename a -> b"


def test_keys_with_line_ends_stay_comments(run: Run) -> None:
    torch.save({"a\ndrop **": torch.randn(2)}, "a.pth")
    torch.save({"b": torch.randn(2)}, "b.pth")
    run("migrate", "new", "one\ndrop **", "a.pth", "b.pth")
    (path,) = Path("migrations").glob("0004*")
    assert all(line.startswith("#") for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument 'TITLE'"),
        (["x", "old.pth"], "two checkpoints are compared, and 1 given: this takes TITLE [OLD NEW]"),
        (["out.pth"], "a checkpoint called `new` is migrated by `statex migrate ./new out.pth`"),
        (["???"], "`???` has no letters or digits that a file could be named after"),
    ],
)
def test_wrong_usage_of_new(arguments: list[str], said: str, run: Run) -> None:
    ended = run("migrate", "new", *arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert said in " ".join(ended.err.split())


def test_a_checkpoint_called_new(run: Run) -> None:
    Path("old.pth").rename("new")
    ended = run("migrate", "./new", "out.pth")
    assert (ended.exit_code, ended.err) == (0, "")
    assert list(read("out.pth")) == list(Net().state_dict())
