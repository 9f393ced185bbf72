"""Convert a checkpoint of any release of the encoder to the current layout.

    python convert_release.py 0.1.pth encoder.safetensors

NEW's name sets its format; OLD may be a file or a folder of shards. A `.pth` carries its version.
"""

from __future__ import annotations

import argparse
import sys

from encoder import Encoder

import statex


def convert(old: str, new: str, *, force: bool = False) -> str:
    """Write a release's checkpoint in the current layout, and say what was done."""
    model = Encoder()
    with statex.open(old) as checkpoint:
        before = list(checkpoint)
        state = statex.migrate_state(model, checkpoint)
    # With the target, the file appears only if the encoder loads it.
    statex.convert(state, new, "", target=model, force=force)
    if list(state) == before:
        return f"wrote {new}: {old} had the current layout already"
    return f"wrote {new}: {len(state)} tensors made from {len(before)}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Convert a checkpoint of any release of the encoder to the current layout."
    )
    parser.add_argument("old", metavar="OLD", help="a checkpoint saved by any release")
    parser.add_argument("new", metavar="NEW", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace NEW if it exists")
    arguments = parser.parse_args()
    try:
        print(convert(arguments.old, arguments.new, force=arguments.force))
    except statex.StatexError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
