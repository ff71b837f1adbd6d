"""Runs whose data are on a hub: fetched once, named in the report, and where they cannot be had the way out is told."""

import io
import json
import shutil
import zipfile

import pytest
from tests.kit.cli import evalmesh
from tests.kit.hub import Hub, rows, served
from tests.kit.simulator import simulator

from evalmesh.benchmarks import registry

PINNED = registry.get("gsm8k").dataset.revision
TEST, TRAIN = "main/test.jsonl", "main/train.jsonl"
FILES = {TEST: rows(8), TRAIN: rows(8, first=100), "README.md": b"# a card"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    for name in (TEST, TRAIN):
        path = folder / "gsm8k" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[name])
    with simulator("--benchmarks", "gsm8k", "--dataset-dir", str(folder)) as started:
        yield started


@pytest.fixture
def hub():
    hub = Hub()
    for id_ in ("openai/gsm8k", "AI-ModelScope/gsm8k"):
        hub.add(id_, FILES)
    hub.pin("openai/gsm8k", PINNED)
    with served(hub):
        yield hub


@pytest.fixture
def run(hub, model, tmp_path):
    def start(*words, datasets=("gsm8k",), **variables):
        where = ("--model", "simulated", "--api-url", model.url, "--limit", "4", "--datasets", *datasets)
        env = {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path / "cache"), **variables}
        return evalmesh(
            "eval", *where, *words, "--work-dir", "out", "--no-timestamp", "--overwrite", cwd=tmp_path, **env
        )

    return start


def benchmark(tmp_path):
    (one,) = json.loads((tmp_path / "out/report.json").read_text())["benchmarks"]
    return one


@pytest.mark.parametrize(
    ("words", "origin"),
    [
        ((), ("modelscope", "AI-ModelScope/gsm8k", "master")),
        (("--dataset-hub", "huggingface"), ("huggingface", "openai/gsm8k", PINNED)),
        (("--processes", "--dataset-hub", "huggingface"), ("huggingface", "openai/gsm8k", PINNED)),
    ],
    ids=["modelscope", "huggingface", "processes"],
)
def test_a_run_fetches_its_data_once_and_names_the_commit(hub, run, tmp_path, words, origin):
    done = run(*words)
    assert done.returncode == 0, done.stderr
    one = benchmark(tmp_path)
    told = one["dataset_origin"]
    assert (told["hub"], told["id"], told["revision"]) == origin
    assert told["commit"] == (PINNED if origin[0] == "huggingface" else hub.repos[origin[1]].branches["master"])
    assert one["metrics"][0]["n_scored"] == 4
    assert sum(where == "storage" for where, _, _ in hub.asked) == 2
    hub.asked.clear()
    again = run(
        *words, HF_ENDPOINT="http://127.0.0.1:1", MODELSCOPE_ENDPOINT="http://127.0.0.1:1", EVALMESH_OFFLINE="1"
    )
    assert again.returncode == 0, again.stderr
    assert benchmark(tmp_path)["dataset_digest"] == one["dataset_digest"]
    assert hub.asked == []


def test_offline_says_which_files_to_bring_and_where(hub, run, tmp_path):
    done = run(EVALMESH_OFFLINE="1")
    assert done.returncode == 2
    for word in ("EVALMESH_OFFLINE", "AI-ModelScope/gsm8k on ModelScope", f"openai/gsm8k on Hugging Face at {PINNED}"):
        assert word in done.stderr
    for split in ("test", "train"):
        assert f"DIR/gsm8k/main/{split}-00000-of-00001.parquet" in done.stderr
    assert run("--dataset-hub", "local").returncode == 2
    assert hub.asked == []
    env = {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path / "elsewhere")}
    fetched = evalmesh("datasets", "fetch", "gsm8k", "--to", "D", cwd=tmp_path, **env)
    assert fetched.returncode == 0, fetched.stderr
    brought = run("--dataset-hub", "local", "--dataset-dir", "D")
    assert brought.returncode == 0, brought.stderr
    assert "dataset_origin" not in benchmark(tmp_path)


def test_a_hub_that_cannot_be_reached_names_both_ways_out(run):
    done = run(MODELSCOPE_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 5
    for word in ("ModelScope (http://127.0.0.1:1)", "--dataset-hub huggingface", "--dataset-dir DIR", "local_path"):
        assert word in done.stderr


def test_questions_of_ones_own_come_from_a_hub(hub, run, tmp_path):
    hub.add("me/faq", {"data/test.jsonl": b'{"query": "Which river?", "response": "The Danube"}\n' * 4})
    done = run("--dataset-id", "me/faq", datasets=["general_qa"])
    assert done.returncode in {0, 6}, done.stderr
    assert benchmark(tmp_path)["dataset_origin"]["id"] == "me/faq"
    assert run("--dataset-id", "me/fak", datasets=["general_qa"]).returncode == 2
    refused = run("--dataset-id", "me/faq", datasets=["gsm8k", "arc"])
    assert refused.returncode == 2
    assert "dataset_id: 'me/faq'" in refused.stderr


def test_a_fork_at_a_revision_takes_the_place_of_the_published_rows(hub, run, tmp_path):
    old = hub.add("me/fork", FILES)
    hub.add("me/fork", {**FILES, TEST: rows(8, first=50)})
    args = {"gsm8k": {"dataset_id": "me/fork", "revision": old}}
    done = run("--dataset-args", json.dumps(args), "--dataset-hub", "huggingface")
    assert done.returncode == 0, done.stderr
    assert benchmark(tmp_path)["dataset_origin"]["commit"] == old
    wrong = run("--dataset-args", json.dumps({"gsm8k": {"revision": "mian"}}), "--dataset-hub", "huggingface")
    assert (wrong.returncode, "Did you mean 'main'" in wrong.stderr) == (2, True)


def test_rows_in_an_archive_are_found_in_it(hub, run, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    hub.add("me/packed", {"gsm8k.zip": packed.getvalue(), "dataset_infos.json": b"{}"})
    where = ("--dataset-id", "me/packed", "--dataset-hub", "huggingface")
    done = run(*where)
    assert done.returncode == 0, done.stderr
    assert benchmark(tmp_path)["dataset_origin"]["id"] == "me/packed"
    again = run(*where, EVALMESH_OFFLINE="1")
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("words", [(), ("--processes",)], ids=["together", "processes"])
def test_gated_data_are_fetched_with_the_key_of_a_connection(hub, run, tmp_path, words):
    hub.add("me/gated", FILES)
    hub.repos["me/gated"].gated, hub.token = True, "hf_secret_of_the_hub"
    where = ("--dataset-id", "me/gated", "--dataset-hub", "huggingface", *words)
    refused = run(*where)
    assert (refused.returncode, "asked for access" in refused.stderr) == (5, True)
    file = tmp_path / "connections.yaml"
    file.write_text(f"- {{name: hub, url: '{hub.url}', key_ref: 'env:HUB_KEY'}}\n")
    done = run(*where, EVALMESH_CONNECTIONS_FILE=str(file), HUB_KEY="hf_secret_of_the_hub")
    assert done.returncode == 0, done.stderr
    assert {headers.get("Authorization") for place, _, headers in hub.asked if place == "storage"} == {None}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and b"hf_secret_of_the_hub" in path.read_bytes()]
    assert written == []


def test_a_demo_fetches_too(hub, tmp_path):
    env = {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = evalmesh("eval", "--demo", "--datasets", "gsm8k", "--limit", "2", cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr
    assert "fetched gsm8k from AI-ModelScope/gsm8k" in done.stderr


def test_data_sets_are_fetched_listed_and_previewed_beforehand(hub, tmp_path):
    env = {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def datasets(*words):
        done = evalmesh("datasets", *words, "--format", "json", cwd=tmp_path, **env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert datasets("list") == []
    (fetched,) = datasets("fetch", "gsm8k", "starter_math", "--dataset-hub", "huggingface")
    assert (fetched["commit"], fetched["n_files"]) == (PINNED, 2)
    (kept,) = datasets("list")
    assert (kept["id"], kept["commit"], kept["size_bytes"]) == ("openai/gsm8k", PINNED, fetched["size_bytes"])
    addresses = datasets("files", "gsm8k", "--dataset-hub", "huggingface", "--num-fewshot", "0")
    assert [one["place"] for one in addresses] == ["DIR/gsm8k/main/test-00000-of-00001.parquet"]
    assert addresses[0]["url"].startswith(f"{hub.url}/datasets/openai/gsm8k/resolve/{PINNED}/main/test")
    shown = evalmesh("benchmarks", "preview", "gsm8k", cwd=tmp_path, **env)
    assert "What is 0 and 0?" in shown.stdout
    info = evalmesh("benchmarks", "show", "gsm8k", cwd=tmp_path).stdout
    assert f"openai/gsm8k at {PINNED}" in info
    assert "MIT" in info
    shutil.rmtree(tmp_path / "cache")
    assert datasets("list") == []
