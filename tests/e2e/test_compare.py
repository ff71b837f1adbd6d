"""`evalmesh compare` of real answers of real models, scored by `evalmesh score`."""

import json

import pytest
from tests.kit.cli import evalmesh, report_in, running, until

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(180)]

N_TEST = 1319
SMALL, LARGE = "6b_finetuning", "175b_finetuning"


@pytest.fixture(scope="module")
def scored(shared_data, tmp_path_factory):
    """A folder with an outputs folder per model, and which questions each answered rightly by its own authors."""
    place = tmp_path_factory.mktemp("scored")
    with (shared_data / "gsm8k" / "ref_example_model_solutions.jsonl").open() as lines:
        rows = [json.loads(line) for line in lines]
    for model in (SMALL, LARGE):
        texts = [json.dumps({"index": at, "text": row[model]["solution"]}) for at, row in enumerate(rows)]
        (place / f"{model}.jsonl").write_text("\n".join(texts))
        where = ("--dataset-dir", shared_data, "--work-dir", place / model, "--no-timestamp")
        done = evalmesh(
            *("score", "--dataset", "gsm8k", "--completions", place / f"{model}.jsonl", "--model", model, *where),
            cwd=place,
        )
        assert done.returncode == 0, done.stderr
    return place, [[row[model]["is_correct"] for row in rows] for model in (SMALL, LARGE)]


def test_what_flipped_is_what_the_authors_flags_say(scored):
    place, (small, large) = scored
    done = evalmesh("compare", place / SMALL, place / LARGE, "--format", "json", "--gate", "gsm8k>=0.1", cwd=place)
    assert (done.returncode, done.quiet) == (0, True), done.stderr
    document = json.loads(done.stdout)
    metric = document["comparisons"][0]["benchmarks"][0]["metrics"][0]
    assert (metric["n"], metric["verdict"], metric["test"]) == (N_TEST, "better", "mcnemar")
    assert (metric["a"], metric["b"]) == (sum(small) / N_TEST, sum(large) / N_TEST)
    won = {f"main/{at}" for at in range(N_TEST) if large[at] and not small[at]}
    lost = {f"main/{at}" for at in range(N_TEST) if small[at] and not large[at]}
    assert {one["sample_id"] for one in document["flips"] if one["b"]["value"] == 1} == won
    assert {one["sample_id"] for one in document["flips"] if one["b"]["value"] == 0} == lost
    assert (metric["wins"], metric["losses"]) == (len(won), len(lost)) == (260, 88)


def test_a_run_from_a_server_is_compared_with_a_folder_and_with_another_run(scored, tmp_path):
    place, _ = scored
    run = report_in(place / LARGE)["run"]["id"]
    with running("up", "--work-dir", place / LARGE, "--address", "127.0.0.1:0", cwd=tmp_path) as platform:
        until(lambda: "is up at" in platform.stdout, what="the platform")
        address = platform.stdout.split("is up at ")[1].split(";")[0]
        for baseline in (run, place / SMALL):
            done = evalmesh("compare", baseline, run, "--server", address, "--format", "csv", cwd=tmp_path)
            assert (done.returncode, done.quiet) == (0, True), done.stderr
            assert done.stdout.splitlines()[1].split(",")[1:5] == ["gsm8k", "", "accuracy", str(N_TEST)]
