"""Every block of commands in README and guides runs, page by page, as a reader would type it.

What a reader fills in (`URL`, `DIR`, `RUN`, ...) is filled in, and long loads are made short; nothing else is changed.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.kit.cli import environment
from tests.kit.documented import ROOT, blocks, pages
from tests.kit.hub import Hub, served
from tests.kit.simulator import simulator
from tests.kit.tiny_model import random_model

from evalmesh.benchmarks import registry

_COMMAND = re.compile(r"^(?:\w+=\S+ +)*(?:\.venv/bin/)?(?:evalmesh|make|pip|python3?) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    """What the reader of a page has done or knows when he comes to its commands."""

    before: str = ""
    """Shell commands."""
    filled_in: Mapping[str, str] = field(default_factory=dict)
    """Parts of the text, and what stands for them here."""
    not_here: Mapping[str, str] = field(default_factory=dict)
    """How lines begin that cannot be run by a test, each with the reason."""


_INSTALLS = "installs from a package index; the suite itself runs in such an environment"
_FILL_IN = {
    "http://127.0.0.1:8000/v1": "$SIM",
    "http://127.0.0.1:8801/v1": "$SIM",
    " URL": " $SIM",
    "DIR": "$DATA",
    ".venv/bin/": "",
}
_LOAD = (
    "--url $SIM/chat/completions --model m --dataset random --max-prompt-length 32 --min-prompt-length 8 --max-tokens 4"
)
_SHORT = {
    "perf ...": f"perf {_LOAD}",
    "preview ...": f"preview {_LOAD}",
    "--duration 60": "--duration 1",
    "--number 50 400 1600": "--number 5 10 20",
}
_FIRST_RUN = "evalmesh eval --model my-model --api-url $SIM --datasets starter_math --limit 5"
_NEWEST = 'newest() { evalmesh runs list --format json | sed -n \'s/.*"id": "\\([^"]*\\).*/\\1/p\' | head -1; }'
_UP = f"""
{_NEWEST}
up() {{
  evalmesh up --address 127.0.0.1:9090 "$@" > up.log 2>&1 & UP=$!
  until grep -q 9090 up.log; do sleep 0.1; done
}}
"""
_TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\\n2024-05-10 00:00:00.0,20,4\\n2024-05-10 00:00:01.0,20,4\\n"

PAGES: Mapping[str, Page] = {
    "README.md": Page(
        filled_in=_SHORT | {"--find-max rate": "--find-max rate --sla-upper-bound 32"},
        not_here={"make ": "is how this suite was started, and the newcomer's run that CI makes from a fresh clone"},
    ),
    "CONTRIBUTING.md": Page(not_here={"make ": "is how this suite was started"}),
    "docs/guides/config.md": Page(),
    "docs/guides/first-run.md": Page(not_here={"python3 -m venv": _INSTALLS, ".venv/bin/pip": _INSTALLS}),
    "docs/guides/your-own-data.md": Page(
        before="for name in exam law tax; do"
        " printf 'question,A,B,C,answer\\nWhich of these floats?,a cork,a brick,a nail,A\\n' > $name.csv; done;"
        " printf 'Frage;A;B;L\\366sung\\nWas schwimmt?;Kork;Stein;A\\n' > frage.csv;"
        """ printf '{"query": "Which river?", "response": "The Danube"}\\n' > faq.jsonl""",
        filled_in={"starter_math": "starter_math --limit 5"},
    ),
    "docs/guides/vllm.md": Page(
        not_here={"pip install": _INSTALLS, "evalmesh eval --engine vllm": "needs vLLM: `make test-vllm` evaluates so"}
    ),
    "docs/guides/score-existing-completions.md": Page(
        before="""printf '{"index": 0, "text": "The answer is 41."}\\n' > completions.jsonl""",
        filled_in={"--model old-model": "--model old-model --limit 1"},
    ),
    "docs/guides/comparing-runs.md": Page(
        before=f"for name in a b; do {_FIRST_RUN} --work-dir $name --no-timestamp; done",
        filled_in={"outputs/20260101_120000_a": "a", "outputs/20260101_130000_b": "b"},
    ),
    "docs/guides/looking-at-answers.md": Page(),
    "docs/guides/use-cache-and-resume.md": Page(
        before=f"{_FIRST_RUN}; {_NEWEST}; RUN=$(newest)",
        filled_in={"runs resume RUN": "runs resume $RUN --rescore", "--use-cache RUN": "--use-cache $RUN"},
    ),
    "docs/guides/endpoints.md": Page(
        before=f"{_FIRST_RUN}; {_NEWEST}; RUN=$(newest); export NEW_KEY=some-key",
        filled_in={
            "--datasets gsm8k": "--datasets starter_math",
            "http://10.0.0.7:8000/v1": "$SIM",
            "runs resume RUN": "runs resume $RUN --rescore",
        },
    ),
    "docs/guides/other-doors.md": Page(
        filled_in={"https://api.anthropic.com": "$SIM/messages"},
        not_here={"pip install": _INSTALLS},
    ),
    "docs/guides/living-with-runs.md": Page(
        before=f"{_FIRST_RUN} --name one; {_FIRST_RUN} --name two; {_FIRST_RUN} --name three",
        filled_in={"runs export RUN": "runs export one", "delete RUN": "delete two"},
    ),
    "docs/guides/load-tests.md": Page(
        before=f"printf '{_TRACE}' > azure.csv; for name in A B; do"
        f" evalmesh perf {_LOAD} --number 8 --outputs-dir . --no-timestamp; mv perf.json $name.json; done",
        filled_in=_SHORT
        | {
            "--stages 30s:5 60s:5-50 30s:50": "--stages 1s:5 1s:5-20 1s:20",
            ".../v1": "$SIM",
            "compare A B C": "compare A.json B.json A.json",
            "compare A B": "compare A.json B.json",
            "evalmesh perf export ID --export mlflow": "evalmesh perf export A.json --export csv",
            " --tokenizer-path ./qwen2.5": "",
            "--number 100 800 1600": "--number 5 10 20",
            "--max-tokens 2048": "--max-tokens 8",
        },
        not_here={
            "evalmesh perf watch": "follows a load test that goes on",
            "evalmesh perf cancel": "ends one",
        },
    ),
    "docs/guides/server-metrics.md": Page(
        filled_in=_SHORT | {"http://gpu-node:9400/metrics": "$SIM/../metrics"},
    ),
    "docs/guides/evaluate-a-checkpoint.md": Page(
        before="cp -r $CHECKPOINT my-checkpoint",
        filled_in={"gsm8k": "starter_math --limit 3 --max-tokens 8"},
        not_here={"evalmesh eval --engine": "needs a hub, or vLLM"},
    ),
    "docs/guides/run-on-two-gpus.md": Page(
        before="cp -r $CHECKPOINT my-checkpoint",
        filled_in={"gsm8k": "starter_math --limit 3 --max-tokens 8"},
        not_here={
            "evalmesh eval --engine": "needs vLLM",
            "evalmesh eval --model ./my-checkpoint --datasets gsm8k --processes": "tests/e2e/test_checkpoints.py",
            "evalmesh eval --model ./my-checkpoint --datasets gsm8k --model-args device_map": "needs GPUs",
        },
    ),
    "docs/guides/local-engines.md": Page(not_here={"evalmesh perf": "needs an engine and its weights"}),
    "docs/guides/exporters.md": Page(
        not_here={
            ".venv/bin/pip": _INSTALLS,
            "python -m venv": _INSTALLS,
            "~/.venvs": _INSTALLS,
            "evalmesh perf ... --export": "needs an account; tests/component/test_exporters.py has servers of its own",
            "evalmesh perf export": "needs an account",
            "python -m evalmesh.adapters.exporters": "needs an account",
        },
    ),
    "docs/guides/run-on-one-machine-and-many.md": Page(
        before=_UP,
        filled_in={
            "evalmesh up --address 127.0.0.1:9090": "up",
            "runs watch RUN": "runs watch $(newest)",
            "evalmesh runs cancel RUN": "kill $UP; unset EVALMESH_SERVER",
        },
        not_here={
            ".venv/bin/pip": _INSTALLS,
            "export EVALMESH_S3": "needs a bucket: tests/e2e/test_on_s3.py has one",
            "evalmesh store": "needs a bucket: tests/e2e/test_on_s3.py has one",
        },
    ),
    "docs/guides/data-from-hubs.md": Page(
        before="unset HF_HUB_OFFLINE; export HF_ENDPOINT=$HUB MODELSCOPE_ENDPOINT=$HUB XDG_CACHE_HOME=$PWD/cache",
        filled_in={
            "--datasets gsm8k arc --dataset-dir DIR": "--datasets gsm8k arc --dataset-dir ./D",
            "--to DIR": "--to D",
        },
    ),
    "docs/guides/telemetry.md": Page(
        before=_UP,
        filled_in={
            "http://127.0.0.1:4318": "http://127.0.0.1:9",
            "--datasets gsm8k": "--datasets starter_math",
            "127.0.0.1:9464": "127.0.0.1:0",
            "evalmesh up --address 127.0.0.1:9090": "up; kill $UP",
        },
    ),
    "docs/guides/use-the-sdk.md": Page(before=_UP, filled_in={"evalmesh up --address 127.0.0.1:9090": "up; kill $UP"}),
    "docs/guides/security.md": Page(
        before=_UP,
        filled_in={
            "evalmesh up --address 127.0.0.1:9090": "up",
            "EVALMESH_TOKEN_FILE=token": "EVALMESH_TOKEN_FILE=$(echo outputs/.evalmesh/*token*)",
            "OPENAI_API_KEY=...": "OPENAI_API_KEY=some-key; kill $UP; wait $UP || true",
            "evalmesh up --connection openai=https://api.openai.com/v1": "up --connection openai=$SIM",
            "gpt-4.1-mini": "m",
        },
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`$SIM`, a model server; `$DATA`, a folder of data sets; `$CHECKPOINT`, a folder with a model."""
    data = tmp_path_factory.mktemp("data")
    for subset, names in {
        "gsm8k/main": ("train", "test"),
        "arc/ARC-Easy": ("test",),
        "arc/ARC-Challenge": ("test",),
    }.items():
        folder = data / subset
        folder.mkdir(parents=True)
        for name in names:
            rows = [_sum(number) if "gsm8k" in subset else _choice(number) for number in range(6)]
            (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    hub = Hub()
    for name in ("gsm8k", "arc"):
        info = registry.get(name).dataset
        files = {str(path.relative_to(data / name)): path.read_bytes() for path in (data / name).rglob("*.jsonl")}
        for id_ in (info.huggingface, info.modelscope):
            hub.add(id_, files)
            hub.pin(id_, info.revision)
    with simulator() as model, served(hub):
        checkpoint = random_model(tmp_path_factory.mktemp("checkpoint") / "model")
        yield {"SIM": model.url, "DATA": str(data), "CHECKPOINT": str(checkpoint), "HUB": hub.url}


def _sum(number: int) -> dict[str, object]:
    return {"question": f"What is {number} plus 2?", "answer": f"It is {number + 2}.\n#### {number + 2}"}


def _choice(number: int) -> dict[str, object]:
    options = {"text": ["a cork", "a brick", "a nail"], "label": ["A", "B", "C"]}
    return {"question": f"Which of these floats in pool {number}?", "choices": options, "answerKey": "A"}


def script_of(name: str, world: Mapping[str, str]) -> str:
    """The commands of a page in the order of the page."""
    page = PAGES[name]
    lines = [page.before]
    for number, _, text in blocks(ROOT / name):
        if not _COMMAND.search(text):
            continue
        lines.append(f"echo '== {name}:{number}'")
        wanted = (line for line in text.splitlines() if not any(map(line.startswith, page.not_here)))
        lines += [filled_in(line, page.filled_in | _FILL_IN) for line in wanted]
    return filled_in("\n".join(lines), {f"${variable}": value for variable, value in world.items()})


def filled_in(line: str, words: Mapping[str, str]) -> str:
    for word, meant in words.items():
        line = line.replace(word, meant)
    return line


def test_every_page_with_commands_is_looked_at():
    with_commands = {
        str(page.relative_to(ROOT))
        for page in pages()
        if any(_COMMAND.search(text) for _, language, text in blocks(page) if language in {"", "sh"})
    }
    assert with_commands == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_commands_of(name, world, tmp_path):
    with (tmp_path / "said").open("w") as said:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script_of(name, world)],
            cwd=tmp_path,
            env=environment(PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        code = shell.wait(timeout=150)
    finally:
        # What a page leaves running, as `evalmesh up` in a terminal of its own.
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    text = (tmp_path / "said").read_text()
    assert code == 0, text
    assert "Traceback" not in text
