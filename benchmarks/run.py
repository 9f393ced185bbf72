"""Measures statex against `cp` and against the torch script a user would write: paired rounds, medians, ratios.

    python benchmarks/run.py                    all of it
    python benchmarks/run.py --only rename      what has this in its name
    python benchmarks/run.py --rounds 3 --folder /somewhere/fast

Each round runs `cp`, `cp` with a `sync` of the copy, statex (which syncs what it writes), the torch script (which
does not) and `statex plan` one after the other, so that the noise of the machine meets all of them. `/ script` is the
median of the ratios of single rounds, and `CPU / script` compares what the processors did, which other work on the
machine changes less. A second table has `statex diff` of two equal files beside `cat`, which reads both, `cmp`, and a
torch script that compares them, a third one `statex infer`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHILD = """
import os, resource, sys, time
start = time.perf_counter()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
                      file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
_, status, usage = os.wait4(pid, 0)
seconds = time.perf_counter() - start
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Used:
    """What a command used: seconds, seconds of the processors, and its largest resident set in MiB."""

    seconds: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Case:
    """One line of the table: how its data is made, what statex is told, and what a user would write with torch."""

    name: str
    suffix: str
    make: Callable[[Path], None]
    rules: str
    script: str
    second: Callable[[Path, Path], object] | None = None
    """Makes a second input, `other`, of the path of the first, if there is one."""


def llama(gigabytes: float, dtype: str = "bfloat16", fused: bool = False) -> Callable[[Path], None]:
    """Return a function that saves a state like Llama's: 291 tensors (or 227 with fused attention)."""

    def make(path: Path) -> None:
        import torch

        kind = getattr(torch, dtype)
        generator = torch.Generator().manual_seed(0)
        layers = 32
        total = gigabytes * 1e9 / kind.itemsize
        hidden = int((total / (layers * 12)) ** 0.5) // 64 * 64
        state = {"model.embed_tokens.weight": (4 * hidden, hidden)}
        for number in range(layers):
            prefix = f"model.layers.{number}"
            if fused:
                state[f"{prefix}.self_attn.qkv_proj.weight"] = (3 * hidden, hidden)
            else:
                state |= {f"{prefix}.self_attn.{p}_proj.weight": (hidden, hidden) for p in "qkv"}
            state[f"{prefix}.self_attn.o_proj.weight"] = (hidden, hidden)
            ffn = int(hidden * 2.6) // 64 * 64
            state |= {f"{prefix}.mlp.{p}_proj.weight": (ffn, hidden) for p in ("gate", "up")}
            state[f"{prefix}.mlp.down_proj.weight"] = (hidden, ffn)
            state |= {f"{prefix}.{p}_layernorm.weight": (hidden,) for p in ("input", "post_attention")}
        state |= {"model.norm.weight": (hidden,), "lm_head.weight": (4 * hidden, hidden)}
        save({key: torch.randn(shape, generator=generator).to(kind) for key, shape in state.items()}, path)

    return make


def experts(path: Path) -> None:
    """Save 2 layers of 32 experts, 0.55 GB."""
    import torch

    shapes = {"gate": (704, 1024), "up": (704, 1024), "down": (1024, 704)}
    keys = {f"layers.{i}.experts.{e}.{n}.weight": s for i in range(2) for e in range(32) for n, s in shapes.items()}
    save({key: torch.randn(shape) for key, shape in keys.items()}, path)


def stacked(path: Path) -> None:
    """Save the same 2 layers of 32 experts as they are after `STACK_RULE`."""
    import torch

    shapes = {"gate_up": (32, 1408, 1024), "down": (32, 1024, 704)}
    save({f"layers.{i}.experts.{n}": torch.randn(shape) for i in range(2) for n, shape in shapes.items()}, path)


def many(path: Path) -> None:
    """Save 100,000 tensors of 1 KiB."""
    import torch

    block = torch.randn(100_000, 256)
    keys = (f"layers.{i}.{m}.weight" for i in range(10_000) for m in "abcdefghij")
    save({key: block[number].clone() for number, key in enumerate(keys)}, path)


def adapter(base: Path, path: Path) -> None:
    """Save a LoRA adapter of rank 16 for all linear layers of a state like Llama's, in f32."""
    import torch

    import statex

    generator = torch.Generator().manual_seed(1)
    state = {}
    for key, info in statex.read_header(base).entries.items():
        if "_proj." in key:
            rows, columns = info.type.shape
            module = key.removesuffix(".weight")
            state[f"{module}.lora_A.weight"] = torch.randn(16, columns, generator=generator)
            state[f"{module}.lora_B.weight"] = torch.randn(rows, 16, generator=generator)
    save(state, path)


def save(state: dict[str, object], path: Path) -> None:
    """Save a state in the format of the file's ending."""
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        import torch

        torch.save(state, path)


LOAD = """
import sys, torch
source, destination = sys.argv[1:3]
if source.endswith(".safetensors"):
    from safetensors.torch import load_file, save_file
    state = load_file(source)
else:
    state = torch.load(source, weights_only=True)
"""
SAVE = """
if destination.endswith(".safetensors"):
    save_file({k: v.contiguous() for k, v in state.items()}, destination)
else:
    torch.save(state, destination)
"""
RENAME = 'state = {"ds." + key: value for key, value in state.items()}'
CAST = "state = {key: value.bfloat16() for key, value in state.items()}"
TRANSPOSE = "state = {key: value.T.contiguous() if value.ndim == 2 else value for key, value in state.items()}"
JOIN = """
for i in range(32):
    parts = [state.pop(f"model.layers.{i}.self_attn.{p}_proj.weight") for p in "qkv"]
    state[f"model.layers.{i}.self_attn.qkv_proj.weight"] = torch.cat(parts)
"""
SPLIT = """
for i in range(32):
    parts = state.pop(f"model.layers.{i}.self_attn.qkv_proj.weight").chunk(3)
    for p, part in zip("qkv", parts):
        state[f"model.layers.{i}.self_attn.{p}_proj.weight"] = part.clone()
"""
ROPE = """
from einops import rearrange
for key in state:
    if key.endswith(("q_proj.weight", "k_proj.weight")):
        state[key] = rearrange(state[key], "(h d two) c -> (h two d) c", h=8, two=2)
"""
GROUPED = """
from einops import rearrange
for i in range(32):
    parts = rearrange(state.pop(f"model.layers.{i}.self_attn.qkv_proj.weight"), "(h p d) c -> p (h d) c", h=8, p=3)
    for p, part in zip("qkv", parts):
        state[f"model.layers.{i}.self_attn.{p}_proj.weight"] = part.clone()
"""
STACK = """
for i in range(2):
    parts = {n: [state.pop(f"layers.{i}.experts.{e}.{n}.weight") for e in range(32)] for n in ("gate", "up", "down")}
    joined = [torch.stack(parts[n]) for n in ("gate", "up")]
    state[f"layers.{i}.experts.gate_up"] = torch.cat(joined, dim=1)
    state[f"layers.{i}.experts.down"] = torch.stack(parts["down"])
"""
UNSTACK = """
for i in range(2):
    gate, up = state.pop(f"layers.{i}.experts.gate_up").chunk(2, dim=1)
    parts = {"gate": gate, "up": up, "down": state.pop(f"layers.{i}.experts.down")}
    for n, part in parts.items():
        state |= {f"layers.{i}.experts.{e}.{n}.weight": one.clone() for e, one in enumerate(part)}
"""
AVERAGE = """
other = load_file(sys.argv[3]) if source.endswith(".safetensors") else torch.load(sys.argv[3], weights_only=True)
state = {key: (value + other[key]) / 2 for key, value in state.items()}
"""
LORA = """
other = load_file(sys.argv[3]) if source.endswith(".safetensors") else torch.load(sys.argv[3], weights_only=True)
for key in state:
    if "_proj." in key:
        module = key.removesuffix(".weight")
        delta = other[f"{module}.lora_B.weight"] @ other[f"{module}.lora_A.weight"]
        state[key] = (state[key].float() + 2 * delta).bfloat16()
"""
ATTENTION = "model.layers.{i}.self_attn"
RENAME_RULE = "rename prefix '' -> 'ds.'"
CAST_RULE = "set ** = cast(bf16)"
TRANSPOSE_RULE = "set ** = transpose where ndim == 2"
JOIN_RULE = f"merge {', '.join(f'{ATTENTION}.{p}_proj.weight' for p in 'qkv')} -> {ATTENTION}.qkv_proj.weight = cat"
SPLIT_RULE = f"split {ATTENTION}.qkv_proj.weight -> {ATTENTION}.{{p:q|k|v}}_proj.weight = chunk(3)"
ROPE_RULE = f"set {ATTENTION}.{{p:q|k}}_proj.weight = rearrange('(h d two) c -> (h two d) c', h=8, two=2)"
GROUPED_RULE = (
    f"split {ATTENTION}.qkv_proj.weight -> {ATTENTION}.{{p:q|k|v}}_proj.weight"
    " = rearrange('(h p d) c -> p (h d) c', h=8, p=3) | unstack"
)
EXPERT = "layers.{i:int}.experts.{e:int}"
STACK_RULE = (
    f"merge {EXPERT}.gate.weight as g, {EXPERT}.up.weight as u over e"
    " -> layers.{i}.experts.gate_up = cat(stack(g), stack(u), dim=1); "
    f"merge {EXPERT}.down.weight over e -> layers.{{i}}.experts.down = stack"
)
UNSTACK_RULE = (
    "split layers.{i}.experts.gate_up -> gate.{i}, up.{i} = chunk(2, dim=1); "
    "split {n:gate|up}.{i} over e -> layers.{i}.experts.{e}.{n}.weight = unstack; "
    "split layers.{i}.experts.down over e -> layers.{i}.experts.{e}.down.weight = unstack"
)
AVERAGE_RULE = "input other\nset ** = (it + other::{key}) / 2"
LORA_RULE = (
    "input other\n"
    "set {m}.weight in f32 = it + 2 * (other::{m}.lora_B.weight @ other::{m}.lora_A.weight)"
    " for other::{m:**}.lora_A.weight"
)

CASES = [
    case
    for suffix in (".safetensors", ".pth")
    for case in (
        Case("rename all, 2 GB", suffix, llama(2), RENAME_RULE, RENAME),
        Case("rename all, 6 GB", suffix, llama(6), RENAME_RULE, RENAME),
        Case("cast f32 to bf16, 2 GB", suffix, llama(2, "float32"), CAST_RULE, CAST),
        Case("transpose all 2-D, 2 GB", suffix, llama(2), TRANSPOSE_RULE, TRANSPOSE),
        Case("join q, k, v, 2 GB", suffix, llama(2), JOIN_RULE, JOIN),
        Case("split qkv, 2 GB", suffix, llama(2, fused=True), SPLIT_RULE, SPLIT),
        Case("rename 100,000 tensors of 1 KiB", suffix, many, RENAME_RULE, RENAME),
        Case("regroup rows of q and k, 0.6 GB", suffix, llama(0.6), ROPE_RULE, ROPE),
        Case("split grouped qkv, 0.6 GB", suffix, llama(0.6, fused=True), GROUPED_RULE, GROUPED),
        Case("stack experts, join gate and up, 0.55 GB", suffix, experts, STACK_RULE, STACK),
        Case("unstack experts, split gate and up, 0.55 GB", suffix, stacked, UNSTACK_RULE, UNSTACK),
        Case("average of two, 0.6 GB each", suffix, llama(0.6, "float32"), AVERAGE_RULE, AVERAGE, shutil.copyfile),
        Case("LoRA of rank 16 merged, 0.6 GB", suffix, llama(0.6), LORA_RULE, LORA, adapter),
    )
]


SAME = """
import sys, torch
if sys.argv[1].endswith(".safetensors"):
    from safetensors.torch import load_file as load
else:
    load = torch.load
one, other = (load(path) for path in sys.argv[1:])
assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
"""
"""Compares two files as a user would with torch."""
COMPARED = "diff of two equal files, 2 GB each"
INFERRED_RULES = f"{JOIN_RULE}; set **.mlp.**, **.o_proj.weight = transpose; {RENAME_RULE}"
INFERRED: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "infer a rename, 1 GB each": (llama(1), RENAME_RULE),
    "infer rules with merges and transposes, 1 GB each": (llama(1), INFERRED_RULES),
    "infer a rename of 100,000 tensors of 1 KiB": (many, RENAME_RULE),
}
"""What is inferred: how the old file is made, and the rules that make the new one of it."""


def run(*command: str) -> Used:
    """Run a command."""
    # The child is started by a small process: a large one would lend it its own resident set.
    done = subprocess.run([sys.executable, "-c", CHILD, *command], capture_output=True, text=True, check=True)
    *used, code = done.stdout.split()
    if code != "0":
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr}")
    return Used(*map(float, used))


def program() -> str:
    """Return the path of statex."""
    return shutil.which("statex", path=str(Path(sys.executable).parent)) or "statex"


def made(make: Callable[[Path], None], path: Path) -> None:
    """Make the data of a case in a process of its own, so that its memory is given back."""
    pid = os.fork()
    if pid == 0:
        make(path)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f"the data of `{path.name}` could not be made")


def compare(suffix: str, folder: Path, rounds: int, torch_rounds: int) -> str:
    """Return the line of the table for comparing two equal files of 2 GB each."""
    one, other, script = folder / f"a{suffix}", folder / f"b{suffix}", folder / "script.py"
    made(llama(2), one)
    shutil.copyfile(one, other)
    script.write_text(SAME)
    files = str(one), str(other)
    commands = {
        "cat": ["cat", *files],
        "cmp": ["cmp", *files],
        "statex": [program(), "diff", *files],
        "torch": [sys.executable, str(script), *files],
    }
    run(*commands["cat"])  # warm
    used = rounds_of(commands, rounds, torch_rounds)
    one.unlink()
    other.unlink()
    cat, cmp, ours, theirs = (middle(one.seconds for one in used[name]) for name in commands)
    return (
        f"| {COMPARED} | {suffix} | {cat:.2f} s | {cmp:.2f} s | {ours:.2f} s | {ours / cat:.2f} | {theirs / cat:.2f} "
        f"| {peak(used['statex'])} | {peak(used['torch'])} |"
    )


def inferred(name: str, suffix: str, folder: Path, rounds: int) -> str:
    """Return the line of the table for finding the rules that make one file of another."""
    make, made_by = INFERRED[name]
    old, new, rules = folder / f"old{suffix}", folder / f"new{suffix}", folder / "found.sx"
    made(make, old)
    run(program(), "apply", "-e", made_by, str(old), str(new))
    commands = {
        "cat": ["cat", str(old), str(new)],
        "statex": [program(), "infer", "--force", "-o", str(rules), str(old), str(new)],
    }
    run(*commands["cat"])  # warm
    used = rounds_of(commands, rounds, 0)
    nbytes = old.stat().st_size + new.stat().st_size
    old.unlink()
    new.unlink()
    cat, ours = (middle(one.seconds for one in used[name]) for name in commands)
    cpu = middle(one.cpu for one in used["statex"])
    speed = nbytes / ours / 1e9
    times = f"{cat:.2f} s | {ours:.2f} s | {cpu:.2f} s"
    return f"| {name} | {suffix} | {times} | {speed:.2f} GB/s | {peak(used['statex'])} |"


def rounds_of(
    commands: Mapping[str, Sequence[str]], rounds: int, torch_rounds: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[Used]]:
    """Run commands one after the other, so many times, each after `before`; return what they used."""
    used: dict[str, list[Used]] = {name: [] for name in commands}
    for number in range(rounds):
        for name, command in commands.items():
            if name != "torch" or number < torch_rounds:
                before()
                used[name].append(run(*command))
    return used


def middle(numbers: Iterable[float]) -> float:
    """Return the median, which of no numbers is none."""
    found = list(numbers)
    return statistics.median(found) if found else float("nan")


def peak(used: Sequence[Used]) -> str:
    """Write the largest resident set."""
    return f"{max((one.memory for one in used), default=float('nan')):.0f} MiB"


def measure(case: Case, folder: Path, rounds: int, torch_rounds: int) -> str:
    """Return the line of the table of one case."""
    source, destination = folder / f"in{case.suffix}", folder / f"out{case.suffix}"
    made(case.make, source)
    subprocess.run(["cat", source], stdout=subprocess.DEVNULL, check=True)  # warm
    script = folder / "script.py"
    script.write_text(LOAD + case.script + SAVE)
    statex = program()
    other = folder / f"other{case.suffix}"
    if case.second is not None:
        case.second(source, other)
    further = ["--in", f"other={other}"] if case.second else []
    commands = {
        "cp": ["cp", str(source), str(destination)],
        "cp, sync": ["sh", "-c", f"cp {source} {destination} && sync {destination}"],
        "statex": [statex, "apply", "-e", case.rules, str(source), str(destination), *further],
        "torch": [sys.executable, str(script), str(source), str(destination), *([str(other)] if case.second else [])],
        "plan": [statex, "plan", "-e", case.rules, str(source), *further],
    }

    def before() -> None:
        destination.unlink(missing_ok=True)
        os.sync()

    used = rounds_of(commands, rounds, torch_rounds, before)
    destination.unlink(missing_ok=True)
    other.unlink(missing_ok=True)
    source.unlink()
    cp, synced, ours, theirs, plan = (middle(one.seconds for one in used[name]) for name in commands)
    pairs = list(zip(used["statex"], used["torch"], strict=False))
    cpu = middle(one.cpu for one in used["statex"]) / middle(one.cpu for one in used["torch"])
    return (
        f"| {case.name} | {case.suffix} | {cp:.2f} s | {synced:.2f} s | {ours:.2f} s | {ours / cp:.2f} "
        f"| {ours / synced:.2f} | {theirs / cp:.2f} | {middle(a.seconds / b.seconds for a, b in pairs):.2f} "
        f"| {cpu:.2f} | {peak(used['statex'])} | {peak(used['torch'])} | {plan:.2f} s |"
    )


def main() -> None:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="cases with this text in their name or ending")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch-rounds", type=int, default=3, help="0 leaves the torch script out")
    parser.add_argument("--folder", type=Path, default=None, help="where 12 GB are free")
    options = parser.parse_args()
    # Installed packages come with their bytecode; without it every run would compile statex anew, and not torch.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}")
    print("| work | format | cp | cp, sync | statex | / cp | / (cp, sync) | torch script / cp | / script "
          "| CPU / script | peak | script's peak | statex plan |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for case in CASES:
            if options.only in f"{case.name} {case.suffix}":
                print(measure(case, Path(folder), options.rounds, options.torch_rounds), flush=True)
        print("\n| work | format | cat | cmp | statex diff | / cat | torch script / cat | peak | script's peak |")
        print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for suffix in (".safetensors", ".pth"):
            if options.only in f"{COMPARED} {suffix}":
                print(compare(suffix, Path(folder), options.rounds, options.torch_rounds), flush=True)
        print("\n| work | format | cat | statex infer | CPU | both files | peak |")
        print("|---|---|---|---|---|---|---|", flush=True)
        for suffix in (".safetensors", ".pth"):
            for name in INFERRED:
                if options.only in f"{name} {suffix}":
                    print(inferred(name, suffix, Path(folder), options.rounds), flush=True)


if __name__ == "__main__":
    main()
