"""Where on a chart there is room for a label: boxes, and the lines they must not lie on."""

import math
from collections.abc import Iterator
from itertools import pairwise

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
_ALONG = 6.0
"""Distance of the boxes that keep labels off a line."""


def along(path: str) -> Iterator[Box]:
    """Small boxes along a path of straight pieces (`M1 2L3 4`)."""
    corners = [tuple(map(float, pair.split())) for pair in path.replace("L", "M").split("M") if " " in pair]
    for (x1, y1), (x2, y2) in pairwise(corners):
        steps = max(1, int(math.hypot(x2 - x1, y2 - y1) / _ALONG))
        for step in range(steps + 1):
            x, y = x1 + (x2 - x1) * step / steps, y1 + (y2 - y1) * step / steps
            yield x - 1, y - 1, x + 1, y + 1


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have a part in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
