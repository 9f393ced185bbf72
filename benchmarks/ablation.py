"""Measures what each layer between a plan and the disk is worth: statex as it is beside statex without that layer.

    python benchmarks/ablation.py                      all of it
    python benchmarks/ablation.py --only cast --rounds 9
    python benchmarks/ablation.py --layers reserve ahead

A round runs the whole program and then each one without a layer, in a new order each time, so that the noise of the
machine meets all of them. A line has the median of the ratios of a round, the smallest and the largest of them, in how
many rounds the layer's absence cost time, and the median of the ratios of what the processors did. A layer is taken out
here, by what this script puts in its place: statex itself has no switch for it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import run as bench

HERE = Path(__file__)


def no_writeback() -> None:
    """Leave all writing to the sync at the end."""
    from statex.checkpoint.io import writeback

    writeback.Writeback.add = lambda self, count: None  # type: ignore[method-assign]


def no_reserve() -> None:
    """Let files grow as bytes come."""
    from statex.checkpoint.blobs import output_file

    output_file.reserve = lambda fd, nbytes: None


def no_ahead() -> None:
    """Compute and write in turn."""
    from statex.checkpoint.blobs import output_file

    @contextmanager
    def in_turn(items: Iterator[Any]) -> Iterator[Iterator[Any]]:
        yield items

    output_file.ahead = in_turn


def no_isal() -> None:
    """Compute checksums with zlib."""
    sys.modules["isal"] = None  # type: ignore[assignment]


def no_passive() -> None:
    """Let the threads of OpenMP spin, as it does unless it is told otherwise."""
    os.environ["OMP_WAIT_POLICY"] = ""


LAYERS: dict[str, Callable[[], None]] = {
    "writeback": no_writeback,
    "reserve": no_reserve,
    "ahead": no_ahead,
    "isal": no_isal,
    "passive": no_passive,
}
USUAL = ("writeback", "reserve", "ahead", "isal")
CASES = [
    (bench.Case("rename all, 1 GB", ".safetensors", bench.llama(1), bench.RENAME_RULE, ""), USUAL[:2]),
    (bench.Case("rename all, 1 GB", ".pth", bench.llama(1), bench.RENAME_RULE, ""), USUAL[:2]),
    (bench.Case("cast f32 to bf16, 2 GB", ".safetensors", bench.llama(2, "float32"), bench.CAST_RULE, ""), USUAL[:3]),
    (
        bench.Case("cast f32 to bf16, 2 GB", ".pth", bench.llama(2, "float32"), bench.CAST_RULE, ""),
        (*USUAL, "isal ahead"),
    ),
    (
        bench.Case(
            "average of two, 0.6 GB each", ".pth", bench.llama(0.6, "float32"), bench.AVERAGE_RULE, "", shutil.copyfile
        ),
        (*USUAL, "isal ahead"),
    ),
    (
        bench.Case("LoRA of rank 16, 0.6 GB", ".safetensors", bench.llama(0.6), bench.LORA_RULE, "", bench.adapter),
        ("writeback", "reserve", "ahead", "passive"),
    ),
]
"""What is measured, and the layers that have a part in it: `isal ahead` is without both."""


def measure(case: bench.Case, layers: list[str], folder: Path, rounds: int) -> None:
    """Print the lines of a case."""
    source, other, target = (folder / f"{name}{case.suffix}" for name in ("in", "other", "out"))
    bench.made(case.make, source)
    if case.second is not None:
        case.second(source, other)
    command = ["apply", "-e", case.rules, str(source), str(target)]
    command += ["--in", f"other={other}"] if case.second is not None else []
    subprocess.run(["cat", source], stdout=subprocess.DEVNULL, check=True)  # warm
    used: dict[str, list[bench.Used]] = {name: [] for name in ("", *layers)}
    for _ in range(rounds):
        for name in random.sample(list(used), len(used)):
            target.unlink(missing_ok=True)
            os.sync()
            used[name].append(bench.run(sys.executable, str(HERE), "--without", name, *command))
    for path in (source, other, target):
        path.unlink(missing_ok=True)
    whole = used.pop("")
    for name, found in used.items():
        ratios = [without.seconds / with_it.seconds for without, with_it in zip(found, whole, strict=True)]
        cpu = statistics.median(without.cpu / with_it.cpu for without, with_it in zip(found, whole, strict=True))
        medians = [statistics.median(one.seconds for one in times) for times in (whole, found)]
        slower = f"{sum(ratio > 1 for ratio in ratios)} of {rounds}"
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"| {case.name} | {case.suffix} | {name} | {medians[0]:.2f} s | {medians[1]:.2f} s "
            f"| {statistics.median(ratios):.2f} | {spread} | {slower} | {cpu:.2f} |",
            flush=True,
        )


def main() -> None:
    """Run what is asked for and print the table."""
    if sys.argv[1:2] == ["--without"]:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        for name in sys.argv[2].split():
            LAYERS[name]()
        from statex.cli import main as statex

        statex(sys.argv[3:])
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="cases with this text in their name or ending")
    parser.add_argument("--layers", nargs="*", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None, help="where 12 GB are free")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print("| work | format | without | statex | without it | ratio | ratios of the rounds | slower | CPU |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for case, layers in CASES:
            chosen = [name for name in layers if set(name.split()) <= set(options.layers)]
            if chosen and options.only in f"{case.name} {case.suffix}":
                measure(case, chosen, Path(folder), options.rounds)


if __name__ == "__main__":
    main()
