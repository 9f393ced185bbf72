"""Numbers of bytes as people write them: 5GB, 500 MB, 2GiB."""

from __future__ import annotations

import re

PATTERN = r"^ *[0-9]+(\.[0-9]+)? *(([KMGTPEkmgtpe][Ii]?)?[Bb])? *$"
"""What a size looks like, for a schema."""
LARGEST = 2**63 - 1

_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def parse_size(text: str) -> int | None:
    """Return a number of bytes, at least 1; `None` if the text is not a size or stands for more than 2**63 bytes.

    KB, MB, … EB are powers of 1000, KiB, MiB, … EiB of 1024; case does not matter, and bytes are the unit
    of a number without one.
    """
    found = re.fullmatch(r"\s*([0-9]+)(\.[0-9]+)?\s*(?:([KMGTPE]?)(I?)B)?\s*", text.upper(), re.ASCII)
    if found is None or len(found[1]) > 20 or (found[4] and not found[3]):
        return None
    unit = (1024 if found[4] else 1000) ** _POWERS[found[3] or ""]
    size = int(found[1]) * unit + (int(float(found[2]) * unit) if found[2] else 0)
    return size if 1 <= size <= LARGEST else None


def is_size(text: str) -> bool:
    """Say whether a text is a size."""
    return parse_size(text) is not None
