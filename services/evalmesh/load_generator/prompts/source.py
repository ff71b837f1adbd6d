"""A data set as a stream of prompts with numbers: rows are cycled, bounded in length, counted, given their limits."""

from collections.abc import Callable, Iterator
from itertools import count, islice

import msgspec

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import Lengths
from evalmesh.load.arrivals import lengths
from evalmesh.load.arrivals.schedule import Share
from evalmesh.load_generator.prompts import draws
from evalmesh.load_generator.prompts.base import Context, Dataset, Later, LoadPrompt, Skipped
from evalmesh.load_generator.prompts.prefixes import Prefixes
from evalmesh.load_generator.prompts.writer import estimate
from evalmesh.wire.row_files import Bad

_BAD_PER = 100
"""One bad row is left out, and one more for each hundred; beyond that the file is not what it seems."""
_MOST_TURNS = 1 << 16


class Source:
    """The prompts of one load test, in an order that is the same at every seat."""

    def __init__(self, dataset: Dataset, context: Context) -> None:
        self.dataset = dataset
        self.context = context
        self.repeated = False
        """Whether a prompt was given that had been given before."""
        self._draws = draws.Draws(context.seed, "request")
        self._turns = draws.Draws(context.seed, "turn limits")
        asked = _own(context)
        self._limits = lengths.sampler(asked) if asked is not None else None
        self._fixed = asked is not None and asked.kind == "fixed"
        rows_of_text = dataset.rows is not None and not dataset.timed and context.spec.prefix_tokens
        self._prefixes = Prefixes(context) if rows_of_text else None
        self._plain = self._prefixes is None and not context.spec.tokenize and not context.renders
        self._counts = context.writer.counts
        self._make = dataset.make(context) if dataset.make is not None else None
        self._tally = _Tally()
        self._rows: Iterator[LoadPrompt | Later] | None = None
        self._at = 0
        self._total: int | None = None

    def prompts(self, first: int, share: Share) -> Iterator[tuple[LoadPrompt, int]]:
        """(prompt, its limit of output tokens) of this share, from prompt number `first` on. Endless."""
        if self._make is not None:
            yield from self._made(self._make, count(first + share.seat, share.seats))
            return
        for number, row in self._numbered(first):
            if (number - first) % share.seats == share.seat:
                if self._total is not None and number >= self._total:
                    self.repeated = True
                yield self._finished(row.make(number) if isinstance(row, Later) else row, number)

    def turn_limits(self, number: int, turns: int, first: int) -> list[int]:
        """Limits of each turn of conversation `number`; that of its first turn is known."""
        if self._limits is None or self._fixed:
            return [first] * turns
        limits, table = self._limits, self._turns
        places = (number * _MOST_TURNS + turn for turn in range(1, turns))
        return [first, *(limits(table.uniforms(place)[draws.OUTPUT]) for place in places)]

    def offsets_s(self, *, once: bool) -> Iterator[float]:
        """When each row of a trace is due, from its first row on. `once`: ends with the trace; else it is cycled."""
        start_s, last_s, rows = 0.0, 0.0, 0
        while True:
            for row in self._usable(_Tally()):
                last_s = start_s + (row.offset_s if isinstance(row, Later) else 0.0)
                rows += 1
                yield last_s
            if once or not rows:
                return
            # The next round begins after one mean gap.
            start_s = last_s + last_s / max(1, rows - 1)

    def _made(self, make: Callable[[int], LoadPrompt], numbers: Iterator[int]) -> Iterator[tuple[LoadPrompt, int]]:
        distinct = self.context.distinct
        only = self._shaped(make(0), 0) if distinct == 1 else None
        for number in numbers:
            if distinct is not None and number >= distinct:
                self.repeated = True
            if only is None:
                yield self._finished(make(number), number)
            else:
                yield only, self._limit(only, number)

    def look(self, rows: int) -> None:
        """Goes through the first rows without making prompts.

        Raises `InvalidInput` when too many are bad, or none is there.
        """
        self._tally = tally = _Tally()
        self._require_rows(sum(1 for _ in islice(self._usable(tally), rows)))

    @property
    def notes(self) -> list[str]:
        """What a reader must know about the prompts so far."""
        return [self._how_counted(), *self.context.notes, *self._tally.sentences()]

    def _how_counted(self) -> str:
        if not self.context.recorded:
            return self.context.writer.note
        if self._counts:
            return "Prompts were given; their lengths were counted with the given tokenizer."
        return "Prompts were given; without a tokenizer, only the server knows their lengths."

    def _numbered(self, first: int) -> Iterator[tuple[int, LoadPrompt | Later]]:
        """Usable rows from number `first` on, cycling. Goes on where an earlier level stopped, if it can."""
        if self._rows is None or self._at > first or (self._total and first - self._at > self._total):
            self._begin(first)
        while True:
            for row in self._rows or ():
                self._at += 1
                if self._at > first:
                    yield self._at - 1, row
            if self._total is None:
                self._total = self._at
                self._require_rows(self._total)
            self._begin(max(self._at, first))

    def _require_rows(self, rows: int) -> None:
        if not rows:
            named = f" {self.context.spec.file_name!r}" if self.context.spec.file_name else ""
            raise InvalidInput(
                " ".join((f"The data set{named} has no row that can be used.", *self._tally.sentences())),
                {"field": "prompts.file_digest"},
            )

    def _begin(self, first: int) -> None:
        """Starts a pass over the file such that number `first` lies in it."""
        if self._total is None:
            self._at, self._tally = 0, _Tally()
        else:
            self._at = first - first % self._total
        # Rows that are left out are counted once, not once per pass.
        self._rows = self._usable(self._tally if self._total is None else _Tally())

    def _usable(self, tally: "_Tally") -> Iterator[LoadPrompt | Later]:
        if self.dataset.rows is None:
            return
        bounds = None if self.dataset.timed else self.context.spec.input_tokens
        skip = self.context.spec.offset
        for row in self.dataset.rows(self.context):
            if isinstance(row, Bad):
                tally.bad(row)
                continue
            tally.seen += 1
            if tally.seen <= skip:
                continue
            if isinstance(row, Skipped):
                tally.skip(row.reason)
            elif bounds is not None and bounds.kind != "trace" and isinstance(row, LoadPrompt) and _has_length(row):
                size = self._size(row)
                if bounds.low <= size <= bounds.high:
                    yield row
                else:
                    tally.skip(f"outside prompts.input_tokens ({bounds.low} to {bounds.high})")
            else:
                yield row

    def _size(self, prompt: LoadPrompt) -> int:
        writer, text = self.context.writer, prompt.text
        if writer.counts:
            return writer.count_messages(prompt.messages) if prompt.messages else writer.count(text)
        self.context.note("Without a tokenizer, prompts were chosen by an estimate of their length (4 characters).")
        if prompt.messages:
            text = "".join(str(message.get("content", "")) for message in prompt.messages)
        return estimate(text or "".join(prompt.texts))

    def _finished(self, prompt: LoadPrompt, number: int) -> tuple[LoadPrompt, int]:
        """Counts tokens that are not known yet, and says how long the answer may be."""
        limit = prompt.max_tokens if self._limits is None else self._limit(prompt, number)
        return (prompt if self._plain and (prompt.tokens or not self._counts) else self._shaped(prompt, number)), limit

    def _limit(self, prompt: LoadPrompt, number: int) -> int:
        if self._limits is None or (prompt.body is not None and prompt.max_tokens):
            return prompt.max_tokens
        return self._limits(0.0 if self._fixed else self._draws.uniforms(number)[draws.OUTPUT])

    def _shaped(self, prompt: LoadPrompt, number: int) -> LoadPrompt:
        """Puts a shared prefix before a row's text, counts it, and gives it the form that the API takes."""
        spec, writer, text, tokens = self.context.spec, self.context.writer, prompt.text, prompt.tokens
        if prompt.messages and not tokens and not prompt.images:
            return msgspec.structs.replace(prompt, tokens=writer.count_messages(prompt.messages))
        if not text or prompt.images:
            return prompt
        if self._prefixes is not None:
            text = f"{self._prefixes.of(number)} {text}"
        if spec.tokenize:
            ids = writer.encode(text)
            return msgspec.structs.replace(prompt, text="", token_ids=ids, tokens=len(ids))
        tokens = tokens or writer.count(text)
        if self.context.renders:
            text = writer.render(text)
        return msgspec.structs.replace(prompt, text=text, tokens=tokens)


def _has_length(row: LoadPrompt | Later) -> bool:
    """Whether bounds of length make sense: conversations have many, images none that we know."""
    return isinstance(row, LoadPrompt) and not row.turns and not row.images


def _own(context: Context) -> Lengths | None:
    """The asked distribution of output lengths, if it is not the rows' own."""
    asked = context.spec.output_tokens
    return None if asked is None or asked.kind == "trace" else asked


class _Tally:
    """Rows that were left out, and whether there are too many of them."""

    def __init__(self) -> None:
        self.seen = 0
        self._bad = 0
        self._first_bad: Bad | None = None
        self._skipped: dict[str, int] = {}

    def bad(self, row: Bad) -> None:
        """Counts a bad row; raises `InvalidInput` when there are too many."""
        self._bad += 1
        self._first_bad = first = self._first_bad or row
        if self._bad > 1 + self.seen // _BAD_PER:
            raise InvalidInput(
                f"{self._bad} of the first {self.seen + self._bad} rows of the data set cannot be used; the first is "
                f"{first.where}: {first.reason}. Repair the file, or name the kind of data set it is "
                "(prompts.dataset).",
                {"field": "prompts.file_digest"},
            )

    def skip(self, reason: str) -> None:
        """Counts a sound row that is left out."""
        self._skipped[reason] = self._skipped.get(reason, 0) + 1

    def sentences(self) -> list[str]:
        """What was left out, for people."""
        found = []
        if self._first_bad is not None:
            first = self._first_bad
            found.append(f"{self._bad} bad rows were left out; the first is {first.where}: {first.reason}.")
        found += [f"{number} rows were left out: {reason}." for reason, number in self._skipped.items()]
        return found
