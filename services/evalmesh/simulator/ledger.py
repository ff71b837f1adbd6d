"""The books: counts, times and gauges of everything that is asked, in one place."""

import time

from evalmesh.simulator.faults import Fault
from evalmesh.simulator.gate import Gate
from evalmesh.simulator.generation import Plan
from evalmesh.simulator.http import Exchange, HttpRequest
from evalmesh.simulator.meter import Meter
from evalmesh.simulator.planner import Prompted
from evalmesh.simulator.settings import SimulatorSettings
from evalmesh.simulator.stats import Stats
from evalmesh.simulator.truth import Trace, TruthLog


class Ledger:
    """Keeps the truth: `/stats`, `/truth` and `/metrics` are read from here."""

    def __init__(self, settings: SimulatorSettings, gate: Gate) -> None:
        self._settings = settings
        self._gate = gate
        self.stats = Stats()
        self.truth = TruthLog(settings.truth_size)
        self.meter = Meter(settings)

    def reset(self) -> None:
        """Forgets what was served; counted faults and tries start over. Metrics go on, as Prometheus expects."""
        self.stats = self.stats.fresh()
        self.truth.clear()

    def begin(self, request: HttpRequest, prompted: Prompted) -> Trace:
        """A request was understood and is allowed."""
        stats = self.stats
        stats.requests += 1
        trace = Trace(prompted.endpoint, request.connection, request.arrived_s, keeps_times=self.truth.keeps)
        trace.number = stats.requests
        trace.tries = self._count_asked(prompted)
        trace.name = prompted.questions[0].names[0]
        trace.is_stream = prompted.is_stream
        trace.images = prompted.n_images
        trace.prompt_tokens = prompted.n_prompt_tokens
        trace.tokens_each = self._settings.tokens_per_chunk
        stats.images += prompted.n_images
        stats.enter()
        return trace

    def hit(self, trace: Trace, prompted: Prompted, fault: Fault) -> None:
        """The request meets a fault."""
        trace.fault = fault.kind
        self.stats.faults[fault.kind] += 1
        for question in prompted.questions:
            if question.match is not None:
                known = question.match.known
                self.stats.sample(known.benchmark, known.sample.id).faults[fault.kind] += 1

    def refused(self, trace: Trace, exchange: Exchange, outcome: str) -> None:
        """The request ended with an error status."""
        self.stats.in_flight -= 1
        self._end(trace, exchange, outcome)

    def started(self, trace: Trace, plan: Plan) -> None:
        """The request has its slot."""
        trace.slot_s = time.monotonic()
        self.stats.max_running = max(self.stats.max_running, self._gate.running)
        self.meter.started(trace, plan.usage.prompt_tokens + plan.usage.completion_tokens, self._gate.running)

    def ended(self, trace: Trace, plan: Plan, exchange: Exchange, stats: Stats, outcome: str) -> None:
        """The request is over. `stats` are those it was counted in; a reset in between starts new ones."""
        stats.in_flight -= 1
        if outcome == "ok":
            _close(stats, plan)
        planned = plan.usage.prompt_tokens + plan.usage.completion_tokens
        if trace.slot_s == trace.slot_s:
            self.meter.ended(trace, plan.usage, planned, self._gate.running)
        self._end(trace, exchange, outcome)

    def _end(self, trace: Trace, exchange: Exchange, outcome: str) -> None:
        trace.end_s = time.monotonic()
        trace.outcome = outcome
        trace.status = exchange.status
        self.meter.finished(trace)
        self.truth.add(trace)

    def _count_asked(self, prompted: Prompted) -> int:
        """Counts every prompt; returns the try number of the first."""
        tries = [0] * len(prompted.questions)
        for index, (question, text) in enumerate(zip(prompted.questions, prompted.texts, strict=True)):
            match = question.match
            if match is None:
                tries[index] = self.stats.ask_unknown(text, question.digest, prompted.seed)
            else:
                known = match.known
                tally = self.stats.sample(known.benchmark, known.sample.id, match.copies)
                tries[index] = tally.ask(prompted.seed)
        return tries[0]


def _close(stats: Stats, plan: Plan) -> None:
    stats.prompt_tokens += plan.usage.prompt_tokens
    stats.completion_tokens += plan.usage.completion_tokens
    for part in plan.parts:
        stats.answered += 1
        stats.scored += part.is_scored
        stats.cut += part.cut
        stats.right += part.outcome == "right"
        stats.wrong += part.outcome == "wrong"
        stats.unknown += part.outcome == "unknown" and not part.question.is_look
        match = part.question.match
        if match is not None:
            tally = stats.sample(match.known.benchmark, match.known.sample.id, match.copies)
            tally.answered += 1
            tally.right += part.outcome == "right"
            tally.wrong += part.outcome == "wrong"
            tally.seeds[plan.seed].answered += 1
