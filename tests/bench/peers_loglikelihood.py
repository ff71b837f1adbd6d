"""Log-likelihoods, accuracies and perplexities of lm-evaluation-harness beside ours, on the same tiny models and rows.

    python -m tests.bench.peers_loglikelihood [--venv DIR] [--install] [--keep DIR]

DIR holds an environment with lm-eval; `--install` makes it from PyPI (some minutes, 1 GB), and so does its absence. The
models are random and made here, one without and one with a start token, with a context so short that documents need
several windows. The harness runs its own task files (hellaswag, arc_easy, winogrande, mmlu's template, wikitext) over
local rows; ours are the benchmarks of the same names, asked through the whole platform with the engine transformers.
Exits with 1 if any number differs by more than one in a hundred thousand.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tests.bench.measure import table
from tests.kit.tiny_model import random_model

REPOSITORY = Path(__file__).parents[2]
VENV = REPOSITORY / "build" / "peers" / "lm-eval"
REQUIREMENTS = ("lm-eval>=0.4.9", "torch>=2.4", "transformers>=5", "accelerate>=1.10")
TOLERANCE = 1e-5
CONTEXT = 512
ROWS = 24
TEXT = (
    "the cat river sat stone on green a mat and slept all day while dogs ran by in rain water fire light red of house "
    'über naïve déjà 河流 Привет it\'s well-known 3.14 U.S. (yes) "no" e.g. and/or'
)
WORDS = TEXT.split()


@dataclass(frozen=True)
class Task:
    """One benchmark here, and the task there whose file is taken over rows of ours."""

    benchmark: str
    theirs: str
    """Task file below `lm_eval/tasks`."""
    split: str
    args: Mapping[str, Any]
    metrics: Mapping[str, str]
    """Our metric to theirs."""
    keys: Mapping[str, Any]
    """What else its task file must say."""
    subset: str = ""

    @property
    def file(self) -> str:
        """Where its rows are, in a folder of its own."""
        return f"{self.benchmark}/{self.subset and self.subset + '_'}{self.split}.jsonl"


BY_LENGTH = {"acc": "acc", "acc_norm": "acc_norm"}
ALL = {"scoring": "loglikelihood"}
TASKS = (
    Task("hellaswag", "hellaswag/hellaswag.yaml", "validation", ALL, BY_LENGTH, {}),
    Task("arc", "arc/arc_easy.yaml", "test", {**ALL, "subset_list": ["ARC-Easy"]}, BY_LENGTH, {}, "ARC-Easy"),
    Task("winogrande", "winogrande/default.yaml", "validation", ALL, {"acc": "acc"}, {}),
    Task(
        "mmlu",
        "mmlu/default/_default_template_yaml",
        "test",
        {**ALL, "subset_list": ["anatomy"], "few_shot_num": 0},
        {"acc": "acc"},
        {"description": "The following are multiple choice questions (with answers) about anatomy.\n\n"},
        "anatomy",
    ),
    Task(
        "wikitext",
        "wikitext/wikitext.yaml",
        "test",
        {},
        {name: name for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")},
        {},
    ),
)


def rows_of(benchmark: str, rng: random.Random) -> Iterator[dict[str, Any]]:
    def said(least: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(least, most)))

    for number in range(ROWS // 3 if benchmark == "wikitext" else ROWS):
        options = [said(1, 6) for _ in range(4)]
        if benchmark == "hellaswag":
            endings = [f"{one}[substeps] {said(1, 3)}" if rng.random() < 0.3 else one for one in options]
            begin = {"ctx_a": f"{said(4, 12)} [title] {said(2, 4)}.", "ctx_b": said(0, 2)}
            yield {"ind": number, "activity_label": said(1, 3), **begin, "endings": endings, "label": str(number % 4)}
        elif benchmark == "arc":
            labels = list("1234" if number % 5 == 0 else "ABCD")
            choices = {"text": options, "label": labels}
            yield {"question": said(4, 15) + "?", "choices": choices, "answerKey": labels[number % 4]}
        elif benchmark == "winogrande":
            sentence = f"{said(3, 10)} _ {said(2, 8)}."
            yield {"sentence": sentence, "option1": said(1, 2), "option2": said(1, 2), "answer": "12"[number % 2]}
        elif benchmark == "mmlu":
            yield {"question": said(4, 15) + "?", "choices": options, "answer": number % 4, "subject": "anatomy"}
        else:
            # From less than one window to several, with the marks that are put together again.
            text = f" = {said(1, 3)} = \n \n {said(5, 40 + 120 * number)} , {said(1, 9)} @-@ {said(1, 3)} . \n"
            yield {"page": text}


def install(venv: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    pins = ["-c", str(REPOSITORY / "constraints.txt")]
    subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", *pins, *REQUIREMENTS], check=True)


def write_tasks(venv: Path, folder: Path) -> None:
    """Task files of ours that take theirs in and read our rows."""
    found = subprocess.run(
        [str(venv / "bin" / "python"), "-c", "import lm_eval.tasks as t; print(t.__path__[0])"],
        check=True,
        capture_output=True,
        text=True,
        env=_quiet(),
    )
    theirs = Path(found.stdout.strip().splitlines()[-1])
    for task in TASKS:
        config = {
            "include": str(theirs / task.theirs),
            "task": f"peer_{task.benchmark}",
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {task.split: str(folder / task.file)}},
            "training_split": None,
            "validation_split": None,
            "test_split": None,
            "fewshot_split": task.split,
            f"{task.split}_split": task.split,
            **task.keys,
        }
        # YAML takes JSON.
        (folder / f"peer_{task.benchmark}.yaml").write_text(json.dumps(config, indent=1))


def _quiet() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def theirs(venv: Path, model: Path, folder: Path) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    """Metrics by benchmark, and log-likelihoods by benchmark, sample and continuation."""
    out = folder / f"theirs_{model.name}"
    command = [
        *(str(venv / "bin" / "python"), "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "4"),
        *("--model_args", f"pretrained={model},dtype=float32", "--include_path", str(folder), "--log_samples"),
        *("--tasks", ",".join(f"peer_{task.benchmark}" for task in TASKS), "--output_path", str(out)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=_quiet(), check=False)
    if done.returncode:
        raise SystemExit(f"lm_eval ended with {done.returncode}:\n{done.stderr[-3000:]}")
    (results,) = out.rglob("results_*.json")
    metrics = json.loads(results.read_text())["results"]
    sums: dict[str, list[list[float]]] = {}
    for task in TASKS:
        (samples,) = out.rglob(f"samples_peer_{task.benchmark}_*.jsonl")
        rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
        sums[task.benchmark] = [[_first(one) for one in row["filtered_resps"]] for row in rows]
    return metrics, sums


def _first(response: Any) -> float:
    """A sum with or without its being greedy."""
    return float(response[0] if isinstance(response, list) else response)


def ours(model: Path, folder: Path) -> tuple[dict[str, Any], dict[str, list[list[float]]]]:
    arguments = {task.benchmark: {**task.args, "local_path": str((folder / task.file).parent)} for task in TASKS}
    work = folder / f"ours_{model.name}"
    command = [
        *(sys.executable, "-m", "evalmesh.cli", "eval", "--model", str(model), "--work-dir", str(work)),
        *("--datasets", *(task.benchmark for task in TASKS), "--dataset-args", json.dumps(arguments)),
        *("--model-args", "dtype=float32,device=cpu"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"evalmesh ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    (report,) = work.glob("2*/report.json")
    metrics = {
        one["name"]: {metric["name"]: metric["value"] for metric in one["metrics"]}
        for one in json.loads(report.read_text())["benchmarks"]
    }
    sums = {}
    for task in TASKS:
        rows = pq.read_table(report.parent / "results" / f"{task.benchmark}.parquet").to_pylist()
        rows.sort(key=lambda row: row["index"])
        sums[task.benchmark] = [[one["logprob"] for one in row["continuations"]] for row in rows]
    return metrics, sums


def compare(venv: Path, model: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Lines of the table; the last column is empty where all is equal."""
    their_metrics, their_sums = theirs(venv, model, folder)
    our_metrics, our_sums = ours(model, folder)
    for task in TASKS:
        pairs = [
            (a, b)
            for mine, other in zip(our_sums[task.benchmark], their_sums[task.benchmark], strict=True)
            for a, b in zip(mine, other, strict=True)
        ]
        apart = max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)
        yield (model.name, task.benchmark, f"{len(pairs)} log-likelihoods", "", "", f"{apart:.1e}", _verdict(apart))
        for mine, other in task.metrics.items():
            a, b = our_metrics[task.benchmark][mine], their_metrics[f"peer_{task.benchmark}"][f"{other},none"]
            apart = abs(a - b) / max(1.0, abs(b)) if math.isfinite(a) else math.inf
            yield (model.name, task.benchmark, mine, f"{a:.8f}", f"{b:.8f}", f"{apart:.1e}", _verdict(apart))


def _verdict(apart: float) -> str:
    return "" if apart <= TOLERANCE else "DIFFERS"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", type=Path, default=VENV)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for rows, models and results, which is kept")
    given = parser.parse_args()
    if given.install or not (given.venv / "bin" / "python").exists():
        install(given.venv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        for task in TASKS:
            rows = rows_of(task.benchmark, random.Random(f"peers/{task.benchmark}"))
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / task.file).parent.mkdir(exist_ok=True)
            (folder / task.file).write_text(text)
        write_tasks(given.venv, folder)
        lines = [
            line
            for name, bos in (("plain", False), ("start-token", True))
            for line in compare(given.venv, random_model(folder / name, seed=3, context=CONTEXT, bos=bos), folder)
        ]
    table("lm-eval beside evalmesh", ("model", "benchmark", "figure", "evalmesh", "lm-eval", "apart", ""), lines)
    return 1 if any(line[-1] for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
