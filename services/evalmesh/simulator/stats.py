"""What the simulator really did: the ground truth tests compare reports with."""

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

_MAX_EXAMPLES = 3
_EXAMPLE_CHARS = 300
_MAX_UNKNOWN = 1_000_000
"""Prompts that are no sample and whose tries are counted; beyond that counting starts over."""


@dataclass(slots=True)
class SeedTally:
    """One sample asked with one seed."""

    asked: int = 0
    answered: int = 0


@dataclass(slots=True)
class SampleTally:
    """One sample, over all seeds."""

    copies: int
    asked: int = 0
    answered: int = 0
    right: int = 0
    wrong: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seeds: dict[int, SeedTally] = field(default_factory=dict)

    def ask(self, seed: int) -> int:
        """Counts a request; returns how often this sample was asked with this seed, this time included."""
        self.asked += 1
        tally = self.seeds.get(seed)
        if tally is None:
            tally = self.seeds[seed] = SeedTally()
        tally.asked += 1
        return tally.asked

    def as_json(self) -> dict[str, Any]:
        """For `/stats`."""
        return {
            "asked": self.asked,
            "answered": self.answered,
            "right": self.right,
            "wrong": self.wrong,
            "faults": dict(self.faults),
            "copies": self.copies,
            "seeds": {str(seed): {"asked": t.asked, "answered": t.answered} for seed, t in self.seeds.items()},
        }


@dataclass(slots=True)
class Stats:
    """Totals since start or reset. A reply counts as answered once its last byte is handed to the kernel's buffers."""

    requests: int = 0
    """Generation requests that were understood and allowed; a list of prompts is one."""
    answered: int = 0
    """Prompts answered whole."""
    right: int = 0
    wrong: int = 0
    unknown: int = 0
    scored: int = 0
    """Log-likelihood answers among `answered`. Only the one for a sample's target counts as right or wrong."""
    cut: int = 0
    """Right answers that the request's own limits left no room for; they are in `wrong`."""
    invalid: int = 0
    unauthorized: int = 0
    overloaded: int = 0
    """Refused with 429 because all slots were taken."""
    aborted: int = 0
    """The client went away before the answer was complete."""
    faults: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    max_in_flight: int = 0
    running: int = 0
    max_running: int = 0
    """Requests that hold a slot (`max_concurrency`), at most."""
    connections: int = 0
    max_connections: int = 0
    total_connections: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    images: int = 0
    """Image parts in requests."""
    unknown_asked: int = 0
    unknown_examples: list[str] = field(default_factory=list)
    samples: dict[tuple[str, str], SampleTally] = field(default_factory=dict)
    unknown_tries: dict[tuple[bytes, int], int] = field(default_factory=dict)

    def sample(self, benchmark: str, sample_id: str, copies: int = 1) -> SampleTally:
        """The tally of a sample, made when first asked for."""
        key = (benchmark, sample_id)
        tally = self.samples.get(key)
        if tally is None:
            tally = self.samples[key] = SampleTally(copies)
        return tally

    def ask_unknown(self, text: str, digest: bytes, seed: int) -> int:
        """Counts a prompt nobody knows; returns how often it was asked with this seed, this time included."""
        self.unknown_asked += 1
        if len(self.unknown_examples) < _MAX_EXAMPLES:
            self.unknown_examples.append(text[-_EXAMPLE_CHARS:])
        if len(self.unknown_tries) >= _MAX_UNKNOWN:
            self.unknown_tries.clear()
        tries = self.unknown_tries.get((digest, seed), 0) + 1
        self.unknown_tries[(digest, seed)] = tries
        return tries

    def enter(self) -> None:
        """A request came in."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def fresh(self) -> "Stats":
        """Zeros, but for what is true right now."""
        return Stats(
            in_flight=self.in_flight,
            max_in_flight=self.in_flight,
            running=self.running,
            max_running=self.running,
            connections=self.connections,
            max_connections=self.connections,
        )

    def as_json(self, *, with_samples: bool = True) -> dict[str, Any]:
        """The body of `/stats`."""
        listed = {"faults", "samples", "unknown_tries"}
        body: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in listed}
        body["faults"] = dict(self.faults)
        body["benchmarks"] = self._benchmarks(with_samples=with_samples)
        return body

    def _benchmarks(self, *, with_samples: bool) -> dict[str, Any]:
        benchmarks: dict[str, Any] = {}
        for (name, sample_id), tally in self.samples.items():
            entry = benchmarks.setdefault(
                name, {"asked": 0, "answered": 0, "right": 0, "wrong": 0, "faults": Counter(), "samples": {}}
            )
            for field_name in ("asked", "answered", "right", "wrong"):
                entry[field_name] += getattr(tally, field_name)
            entry["faults"].update(tally.faults)
            if with_samples:
                entry["samples"][sample_id] = tally.as_json()
        for entry in benchmarks.values():
            entry["faults"] = dict(entry["faults"])
        return benchmarks
