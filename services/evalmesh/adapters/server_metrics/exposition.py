"""Prometheus text as the metrics that are wanted and their values."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from evalmesh.load.server_names import WANTED, raw_name
from evalmesh.load.server_samples import Metric


@dataclass(frozen=True, slots=True)
class Reading:
    """What is kept of one exposition."""

    metrics: tuple[Metric, ...]
    values: "array[float]"
    lines: int
    """Values the text has, wanted or not; 0: it is no exposition."""
    error: str = ""
    """What could not be read."""


def read_exposition(text: str) -> Reading:
    """Reads the wanted lines alone: a large exposition costs little, and what is broken elsewhere does not matter."""
    metrics: list[Metric] = []
    values = array("d")
    lines, error = 0, ""
    for line in text.splitlines():
        if not line or line[0] in "#<{":
            continue
        name = line.partition("{")[0].partition(" ")[0].rstrip()
        lines += _is_name(name)
        if (raw := raw_name(name)) not in WANTED:
            continue
        try:
            for labels, value in _read_line(line):
                metrics.append(Metric(raw, labels))
                values.append(value)
        except ValueError as wrong:
            error = error or f"a line of {name} cannot be read: {str(wrong)[:120]}"
    return Reading(tuple(metrics), values, lines, error)


def _read_line(line: str) -> Iterator[tuple[tuple[tuple[str, str], ...], float]]:
    try:
        for family in text_string_to_metric_families(f"{line}\n"):
            for sample in family.samples:
                yield tuple(sorted(sample.labels.items())), float(sample.value)
    except (IndexError, TypeError) as wrong:  # the parser lets these out for some lines that are cut
        raise ValueError(f"it is cut off ({wrong})") from wrong


def _is_name(name: str) -> bool:
    return name.replace("_", "a").replace(":", "a").isalnum() and not name[0].isdigit()
