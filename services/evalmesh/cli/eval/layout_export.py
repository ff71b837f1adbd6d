"""Results in the folder layout that scripts written for EvalScope read.

predictions/{model}/{benchmark}_{subset}.jsonl   what was asked and answered
reviews/{model}/{benchmark}_{subset}.jsonl       how it was judged
reports/{model}/{benchmark}.json                 scores by category and subset

Field names follow the files EvalScope 1.x writes. Differences that a script can meet: message ids are derived from the
sample instead of random, and a request without a score has an empty `value` and says why in `explanation`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from evalmesh.results.table import SCORE_PREFIX

_UNSAFE = frozenset('/\\:*?"<>|')
_MAX_NAME_BYTES = 100
_STOP_REASONS = {"length": "max_tokens"}


def export_evalscope_layout(
    rows: Iterator[dict[str, Any]] | None, report: Mapping[str, Any], out_dir: Path
) -> list[Path]:
    """Writes the three folders, holding one row in memory; without rows, `reports` alone.

    Args:
        rows: Result rows with all columns, of one or several benchmarks; fastest when rows of one subset are adjacent.
        report: The run's report (schema version 1).
        out_dir: Folder that gets `predictions`, `reviews` and `reports`; made when absent. Files of the same names are
            replaced.

    Returns:
        The files written, in order of first use.
    """
    model: str = report["model"]["label"]
    zero = report["config"]["on_error"] == "zero"
    repeats_of = {benchmark["name"]: benchmark["repeats"] for benchmark in report["benchmarks"]}
    written: list[Path] = []
    if rows is not None:
        with _SubsetFiles(out_dir, safe_name(model)) as files:
            for row in rows:
                if row["state"] == "not_run":
                    continue
                repeats = max(repeats_of.get(row["benchmark"], 1), 1)
                files.write(row, prediction(row, model, repeats), review(row, model, repeats, zero=zero))
            written = files.paths
    for benchmark in report["benchmarks"]:
        path = out_dir / "reports" / safe_name(model) / f"{safe_name(benchmark['name'])}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        document = benchmark_report(benchmark, model)
        path.write_text(json.dumps(document, ensure_ascii=False, indent=4, allow_nan=False), encoding="utf-8")
        written.append(path)
    return written


def safe_name(name: str) -> str:
    """A file name for any text: unchanged where it is harmless, else cleaned and with a hash that keeps it apart."""
    cleaned = "".join("_" if char in _UNSAFE or not char.isprintable() else char for char in name).strip(" .")
    cleaned = cleaned.encode("utf-8", "replace")[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    if cleaned == name and name:
        return name
    return f"{cleaned or 'unnamed'}-{_hash(name)}"


class _SubsetFiles:
    """Appends to one pair of files at a time, so that a thousand subsets need no thousand open files."""

    def __init__(self, out_dir: Path, model: str) -> None:
        self._folders = (out_dir / "predictions" / model, out_dir / "reviews" / model)
        for folder in self._folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._names: dict[tuple[str, str], str] = {}
        self._current: tuple[str, str] | None = None
        self._open: list[IO[str]] = []
        self.paths: list[Path] = []

    def write(self, row: Mapping[str, Any], *documents: Mapping[str, Any]) -> None:
        """Appends the prediction and the review of a row."""
        key = (row["benchmark"], row["subset"])
        if key != self._current:
            self._switch(key)
        for file, document in zip(self._open, documents, strict=True):
            json.dump(document, file, ensure_ascii=False, allow_nan=False)
            file.write("\n")

    def _switch(self, key: tuple[str, str]) -> None:
        self.close()
        mode = "a" if key in self._names else "w"
        if mode == "w":
            name = safe_name(f"{key[0]}_{key[1]}")
            if name in self._names.values():  # `a_b` + `c` and `a` + `b_c` are not the same subset
                name = f"{name}-{_hash(chr(0).join(key))}"
            self._names[key] = name
        paths = [folder / f"{self._names[key]}.jsonl" for folder in self._folders]
        if mode == "w":
            self.paths += paths
        self._open = [path.open(mode, encoding="utf-8", newline="\n") for path in paths]
        self._current = key

    def close(self) -> None:
        """Closes the open pair."""
        for file in self._open:
            file.close()
        self._open = []
        self._current = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def prediction(row: Mapping[str, Any], model: str, repeats: int) -> dict[str, Any]:
    """One line of a predictions file. Repeats of a sample get indices of their own, next to each other."""
    timings = _timings(row)
    answer = _answer(row, model, timings)
    failed = row["error_class"] is not None
    return {
        "index": row["index"] * repeats + row["repeat"],
        "model": model,
        "model_output": {
            "id": f"{row['run']}/{row['sample_id']}#{row['repeat']}",
            "model": model,
            "choices": [] if answer is None else [_choice(row, answer)],
            "usage": _usage(row),
            "time": row["latency_s"],
            "metadata": None,
            "error": f"{row['error_class']}: {row['error_message']}" if failed else None,
            "perf_metrics": timings,
        },
        "messages": _conversation(row, answer),
        "metadata": json.loads(row["metadata"] or "{}"),
    }


def review(row: Mapping[str, Any], model: str, repeats: int, *, zero: bool) -> dict[str, Any]:
    """One line of a reviews file; with `zero` a request without a score counts 0, as in the report."""
    values = {name.removeprefix(SCORE_PREFIX): value for name, value in row.items() if name.startswith(SCORE_PREFIX)}
    if row["state"] != "scored":
        values = dict.fromkeys(values, 0.0) if zero else {}
    scored = {name: value for name, value in values.items() if value is not None}
    index = row["index"] * repeats + row["repeat"]
    target = row["target"] or []
    return {
        "index": index,
        "target": target[0] if len(target) == 1 else target,
        "messages": _conversation(row, _answer(row, model, _timings(row))),
        "sample_score": {
            "score": {
                "value": scored,
                "extracted_prediction": row["answer"],
                "prediction": row["completion"],
                "explanation": row["explanation"] or row["reason"],
                "metadata": {"state": row["state"], "extractor": row["extractor"], "outcome": row.get("outcome")},
                "main_score_name": next(iter(scored), None),
            },
            "sample_id": index,
            "group_id": row["index"],
            "generation_index": row["repeat"],
            "sample_metadata": json.loads(row["metadata"] or "{}"),
        },
    }


def _timings(row: Mapping[str, Any]) -> dict[str, Any] | None:
    latency_s, ttft_s, tokens = row["latency_s"], row["ttft_s"], row["output_tokens"]
    if latency_s is None:
        return None
    per_token_s = None
    if ttft_s is not None and tokens is not None and tokens > 1:
        per_token_s = (latency_s - ttft_s) / (tokens - 1)
    return {
        "latency": latency_s,
        "ttft": ttft_s,
        "input_tokens": row["input_tokens"],
        "output_tokens": tokens,
        "tpot": per_token_s,
    }


def _usage(row: Mapping[str, Any]) -> dict[str, Any] | None:
    asked, answered = row["input_tokens"], row["output_tokens"]
    if asked is None and answered is None:
        return None
    return {
        "input_tokens": asked,
        "output_tokens": answered,
        "total_tokens": (asked or 0) + (answered or 0),
        "input_tokens_cache_write": None,
        "input_tokens_cache_read": None,
        "reasoning_tokens": None,
    }


def _answer(row: Mapping[str, Any], model: str, timings: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The assistant's turn; `None` when there is no completion."""
    if row["completion"] is None:
        return None
    content: Any = row["completion"]
    if row["reasoning"]:
        content = [{"type": "reasoning", "reasoning": row["reasoning"]}, {"type": "text", "text": content}]
    shared = _message(row, "answer", "assistant", content)
    if row.get("refusal"):
        shared["metadata"] = {"refusal": row["refusal"]}
    calls = [_call(call) for call in json.loads(row.get("tool_calls") or "[]")] or None
    return shared | {"source": "generate", "perf_metrics": timings, "tool_calls": calls, "model": model}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "function": function, "type": "function"}


def _choice(row: Mapping[str, Any], answer: Mapping[str, Any]) -> dict[str, Any]:
    reason = row["finish_reason"]
    return {"message": answer, "stop_reason": _STOP_REASONS.get(reason, reason), "logprobs": None}


def _conversation(row: Mapping[str, Any], answer: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    turns: list[Mapping[str, Any]] = []
    for position, (role, content) in enumerate(prompt_turns(row["prompt"] or "")):
        message = _message(row, str(position), role, content)
        turns.append(message | {"tool_call_id": None} if role == "user" else message)
    return turns if answer is None else [*turns, answer]


def prompt_turns(prompt: str) -> list[tuple[str, str | list[dict[str, str]]]]:
    """(role, content) of each turn of the column `prompt`; a text prompt is one user turn, media are digests."""
    if prompt.startswith('[{"role":'):
        try:
            return [(turn["role"], _content(turn["content"])) for turn in json.loads(prompt)]
        except (ValueError, KeyError, TypeError):
            return [("user", prompt)]  # a text that only begins like messages
    return [("user", prompt)]


def _content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    return [{"type": part["kind"], part["kind"]: part.get("text") or f"sha256:{part['sha256']}"} for part in content]


def _message(row: Mapping[str, Any], place: str, role: str, content: Any) -> dict[str, Any]:
    return {
        "id": _hash(f"{row['benchmark']}/{row['sample_id']}#{row['repeat']}/{place}"),
        "content": content,
        "source": None,
        "metadata": None,
        "internal": None,
        "perf_metrics": None,
        "role": role,
    }


def benchmark_report(benchmark: Mapping[str, Any], model: str) -> dict[str, Any]:
    """One file of `reports/`; the primary metric comes first, because `score` is the first metric's."""
    primary = benchmark["primary_metric"]
    ordered = sorted(benchmark["metrics"], key=lambda metric: metric["name"] != primary)
    return {
        "name": f"{model}@{benchmark['name']}",
        "dataset_name": benchmark["name"],
        "dataset_pretty_name": benchmark.get("title") or benchmark["name"],
        "dataset_description": "",
        "model_name": model,
        "score": ordered[0]["value"] if ordered else None,
        "metrics": [_metric_report(benchmark, metric) for metric in ordered],
        "analysis": "N/A",
        "num": ordered[0]["n_scored"] if ordered else 0,
    }


def _metric_report(benchmark: Mapping[str, Any], metric: Mapping[str, Any]) -> dict[str, Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for subset in benchmark["subsets"] or [{"name": "default", "category": None, "metrics": [metric]}]:
        for part in subset["metrics"]:
            if part["name"] == metric["name"]:
                entry = {"name": subset["name"], "score": part["value"], "num": part["n_scored"]}
                groups.setdefault(subset["category"] or "default", []).append(entry)
    everything = [entry for entries in groups.values() for entry in entries]
    return {
        "name": metric["name"],
        "num": metric["n_scored"],
        "score": metric["value"],
        "macro_score": _macro(everything),
        "categories": [
            {
                "name": [name],
                "num": sum(entry["num"] for entry in entries),
                "score": _micro(entries),
                "macro_score": _macro(entries),
                "subsets": entries,
            }
            for name, entries in groups.items()
        ],
    }


def _micro(entries: list[dict[str, Any]]) -> float | None:
    scored = [(entry["score"], entry["num"]) for entry in entries if entry["score"] is not None and entry["num"]]
    total = sum(num for _, num in scored)
    return sum(score * num for score, num in scored) / total if total else None


def _macro(entries: list[dict[str, Any]]) -> float | None:
    scored = [entry["score"] for entry in entries if entry["score"] is not None]
    return sum(scored) / len(scored) if scored else None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
