"""The messages that ask for work on load tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from evalmesh.domain.work import Queue


@dataclass(frozen=True, slots=True)
class LoadItem:
    """Asks to conduct a load test, to hold a seat of it, or to report it."""

    load_test: str
    queue: Queue
    """`CONDUCT`, `LOAD` or `LOAD_REPORT`."""
    seat: int = -1
    attempt: int = 0
    ends: bool = False
    """Conduct: a cancel ends the load test. Report: it is over."""
    cancel: str = ""
    """Which cancel ends it."""
    handovers: int = 0
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The load test."""
        return self.load_test

    @property
    def pool(self) -> str:
        """None: any load generator will do."""
        return ""

    @property
    def place(self) -> str:
        """What is to be done, whoever asks and however often."""
        # Whoever ends a load test waits for its conductor, if that is at work in the same process.
        kind = "final" if self.ends and self.queue is not Queue.CONDUCT else "-"
        return f"{self.load_test}/{self.seat}/{self.queue}/{kind}"

    @property
    def id(self) -> str:
        """Deterministic: publishing the same wish twice is one message."""
        cancel = f"/{self.cancel}" if self.ends and self.cancel else ""
        handover = f"/h{self.handovers}" if self.handovers else ""
        return f"{self.place}/{self.attempt}{cancel}{handover}"

    @property
    def labels(self) -> Mapping[str, object]:
        """For logs; `run` is what every log line about a run or load test is found by."""
        return {"run": self.load_test, "seat": self.seat}

    @property
    def step(self) -> str:
        """Of the three."""
        return "report" if self.queue is Queue.LOAD_REPORT else self.queue.value

    @property
    def samples(self) -> int | None:
        """None: load tests have no shards."""
        return None

    def handed_over(self) -> "LoadItem":
        """The same wish as a new message."""
        return replace(self, handovers=self.handovers + 1)
