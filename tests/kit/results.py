"""Results files with rows of every kind, in several row groups."""

import io

from evalmesh.domain.completion import Completion, CompletionError, Timing, Usage
from evalmesh.domain.request import Message
from evalmesh.domain.sample import Sample
from evalmesh.domain.score import Score
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.results.table import ResultsWriter

KINDS = ("right", "wrong", "no_answer", "errored", "unscored", "not_run")
QUESTION = "Which river flows through {subset} number {index}?"


def write_results(path, shards, *, name="rivers", run="r1"):
    """Each of `shards` (subset, kinds of its rows) becomes a row group of its own."""
    with ResultsWriter(path, run=run, benchmark=name, score_names=["accuracy", "near"]) as writer:
        for number, (subset, kinds) in enumerate(shards):
            sink = io.BytesIO()
            with ResultsWriter(sink, run=run, benchmark=name, score_names=["accuracy", "near"]) as part:
                rows = [_row(subset, number * 100 + place, kind) for place, kind in enumerate(kinds)]
                part.add(*map(list, zip(*rows, strict=True)))
            writer.copy(sink.getvalue())
    return path


def _row(subset, index, kind):
    id_ = f"{subset}/{index}"
    sample = Sample(id_, index, subset, QUESTION.format(subset=subset, index=index), ("Rhine", "Rhein"))
    planned = PlannedSample(sample, "chat", ("d" * 8,), (Message("system", "Be brief."), Message("user", sample.input)))
    said = {"right": "It is the RHINE.", "wrong": "It is the Elbe.", "unscored": "It is"}.get(kind, "")
    usage, timing = Usage(10, index % 7 or None), Timing(1.7e9 + index, index % 5 / 10)
    error = CompletionError("server", "HTTP 500: no Danube", 500) if kind == "errored" else None
    completion = Completion(id_, 0, "d" * 8, said, "I think.", "stop", usage=usage, timing=timing, error=error)
    state = kind if kind in {"errored", "unscored"} else "scored"
    answer = {"right": "Rhine", "wrong": "Elbe"}.get(kind)
    values = {"accuracy": float(kind == "right"), "near": index % 3 / 3} if state == "scored" else {}
    reason = None if state == "scored" else "out of luck"
    outcome = "not_found" if kind == "no_answer" else ""
    score = Score(id_, 0, state, values, answer, "marker" if answer else None, "it was compared", reason, outcome)
    if kind == "not_run":
        return planned, Completion("", 0, ""), Score("", 0, "unscored")
    return planned, completion, score
