"""Prometheus text as the metrics that are wanted and their values."""

from array import array
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from evalmesh.load.server.names import WANTED, raw_name
from evalmesh.load.server.readings import RawSeries

_MOST_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Exposition:
    """What is kept of one exposition."""

    metrics: tuple[RawSeries, ...]
    values: "array[float]"
    lines: int
    """Values in the text, of those that are not wanted where none is; 0: it is no exposition."""
    error: str = ""
    """What could not be read."""


@dataclass(frozen=True, slots=True)
class ExpositionReader:
    """Reads the wanted lines of one page, again and again: what is broken elsewhere does not matter.

    Names and labels are parsed once and remembered, since they are the same each second; then a page costs a tenth.
    """

    _known: dict[str, RawSeries] = field(default_factory=dict)
    """By the text before the value."""

    def read(self, text: str) -> Exposition:
        """Never raises; what cannot be read is left out and said."""
        metrics: list[RawSeries] = []
        values = array("d")
        error = ""
        lines = [line for line in text.splitlines() if line and line[0] not in "#<{"]
        for line in lines:
            name = line.partition("{")[0].partition(" ")[0]
            if raw_name(name) not in WANTED:
                continue
            try:
                metric, value = self._read_line(line)
            except ValueError as wrong:
                error = error or f"a line of {name} cannot be read: {str(wrong)[:120]}"
            else:
                metrics.append(metric)
                values.append(value)
        said = len(metrics) or sum(_is_name(line) for line in lines)
        return Exposition(tuple(metrics), values, said, error)

    def _read_line(self, line: str) -> tuple[RawSeries, float]:
        end = line.rfind("}") + 1 or line.find(" ")
        head, rest = line[:end], line[end:].split()
        if rest and (metric := self._known.get(head)) is not None:
            return metric, float(rest[0])
        metric, value = _parsed(line)
        if len(self._known) < _MOST_KNOWN:
            self._known[head] = metric
        return metric, value


def _parsed(line: str) -> tuple[RawSeries, float]:
    try:
        for family in text_string_to_metric_families(f"{line}\n"):
            for sample in family.samples:
                return RawSeries(raw_name(sample.name), tuple(sorted(sample.labels.items()))), float(sample.value)
    except (IndexError, TypeError) as wrong:  # the parser lets these out for some lines that are cut
        raise ValueError(f"it is cut off ({wrong})") from wrong
    raise ValueError("it has no value")


def _is_name(line: str) -> bool:
    name = line.partition("{")[0].partition(" ")[0]
    return name.replace("_", "a").replace(":", "a").isalnum() and not name[0].isdigit()
