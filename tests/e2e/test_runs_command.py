"""`evalmesh runs`: finding, looking at, freeing and keeping runs."""

import csv
import io
import json
import signal
import tarfile
from pathlib import Path

import pytest
from tests.kit.cli import Done, evalmesh, running, until
from tests.kit.simulator import simulator

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def model():
    with simulator("--benchmarks", "starter_math") as process:
        yield process


@pytest.fixture(scope="module")
def slow():
    with simulator("--benchmarks", "starter_math", "--ttft", "300ms") as process:
        yield process


def evaluated(model, cwd: Path, name: str, *more: str) -> str:
    words = ("eval", "--model", "org/some-model", "--api-url", model.url, "--datasets", "starter_math", "--limit", "8")
    done = evalmesh(*words, "--name", name, *more, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return listed(cwd, "--name", name)[0]["id"]


def runs(cwd: Path, *words: str, code: int = 0) -> Done:
    done = evalmesh("runs", *words, cwd=cwd)
    assert (done.returncode, done.quiet) == (code, True), done.stdout + done.stderr
    return done


def listed(cwd: Path, *words: str) -> list[dict]:
    return json.loads(runs(cwd, "list", "--format", "json", *words).stdout)


@pytest.fixture(scope="module")
def three(model, tmp_path_factory) -> tuple[Path, list[str]]:
    """Three runs, oldest first; looked at by tests that change nothing."""
    cwd = tmp_path_factory.mktemp("three")
    (cwd / "labels.yaml").write_text("labels: {team: blue}\n")
    return cwd, [
        evaluated(model, cwd, "first"),
        evaluated(model, cwd, "second", "-c", "labels.yaml"),
        evaluated(model, cwd, "third [x]"),
    ]


def test_a_list_has_scores_names_and_sizes_and_says_what_it_leaves_out(three):
    cwd, ids = three
    (newest, *_) = found = listed(cwd)
    assert [one["id"] for one in found] == ids[::-1]
    assert newest["benchmarks"][0]["score"] is not None
    assert (newest["display_name"], newest["model"], newest["labels"]) == ("third [x]", "some-model", {})
    assert newest["size_bytes"] > 1000
    folder = cwd / newest["folder"]
    assert newest["outputs_bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    table = runs(cwd, "list", "--limit", "1").stdout
    assert "third [x]" in table
    assert "2 more; see them with --limit 3" in table
    (row, *_) = csv.DictReader(io.StringIO(runs(cwd, "list", "--format", "csv").stdout))
    assert (row["id"], row["benchmark"], row["done"]) == (ids[2], "starter_math", "8")


def test_a_look_at_what_nobody_works_on_starts_nothing(three):
    cwd, ids = three
    log = cwd / "outputs" / ".evalmesh" / "nats" / "nats.log"
    before = log.stat().st_size
    quick = listed(cwd)
    assert (log.stat().st_size, [one["id"] for one in quick]) == (before, ids[::-1])
    (cwd / "outputs" / ".evalmesh" / "runs.json").unlink()
    assert listed(cwd) == quick
    assert log.stat().st_size > before


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["--label", "team=blue"], [1]),
        (["--label", "team=red"], []),
        (["--name", "FIRST"], [0]),
        (["--model", "Some-Mo"], [2, 1, 0]),
        (["--benchmark", "starter_mcq"], []),
        (["--state", "succeeded"], [2, 1, 0]),
        (["--state", "failed", "interrupted"], []),
        (["--since", "1h"], [2, 1, 0]),
        (["--since", "2199-01-01"], []),
    ],
)
def test_a_list_can_be_narrowed(three, words, which):
    cwd, ids = three
    assert [one["id"] for one in listed(cwd, *words)] == [ids[place] for place in which]


def test_a_narrow_screen_breaks_no_id_and_no_name(three):
    cwd, ids = three
    table = evalmesh("runs", "list", cwd=cwd, COLUMNS="60").stdout
    assert all(run in table for run in ids)
    assert max(map(len, table.splitlines())) <= 60


def test_what_is_wrong_in_a_look_is_said_with_the_way_out(three):
    cwd, ids = three
    for words, said in {
        ("list", "--limit", "0"): "give a whole number",
        ("list", "--since", "yesterday"): "12h, 7d",
        ("list", "--label", "blue"): "KEY=VALUE",
        ("show", ids[0][:4]): "the beginning of 3 runs",
        ("show", "thrid"): "There is no run 'thrid'",
        ("prune",): "--older-than 30d",
        ("prune", "--older-than", "a month"): "30d, 2w",
        ("cancel",): "No run is going on",
        ("resume",): "No run was interrupted or has failed",
    }.items():
        assert said in runs(cwd, *words, code=2).stderr
    done = evalmesh("runs", "rm", ids[0], cwd=cwd)
    assert (done.returncode, "delete" in done.stderr) == (2, True)
    for word in ("resume", "list", "watch"):
        done = evalmesh(word, cwd=cwd)
        assert (done.returncode, f"evalmesh runs {word}" in done.stderr) == (2, True)


def test_each_action_takes_a_run_as_people_call_it_and_by_itself_the_newest(three):
    cwd, ids = three
    (folder,) = (cwd / "outputs").glob(f"*_{ids[1]}")
    for word in ("second", ids[1], ids[1][-6:], folder.name, str(folder), f"runs/{ids[1]}", str(folder / "run.yaml")):
        assert json.loads(runs(cwd, "show", word, "--format", "json").stdout)["id"] == ids[1]
    assert json.loads(runs(cwd, "show", "--format", "json").stdout)["id"] == ids[2]
    assert "third [x]" in runs(cwd, "show", "latest").stdout
    assert "starter_math" in runs(cwd, "watch").stdout
    assert evalmesh("report", "second", "--format", "json", cwd=cwd).stdout.count(ids[1]) == 1


def test_an_export_needs_nothing_else(three, tmp_path):
    cwd, ids = three
    runs(cwd, "export", "second", "--to", str(tmp_path / "one.tar.gz"))
    with tarfile.open(tmp_path / "one.tar.gz") as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob(f"*_{ids[1]}")
    assert {"run.yaml", "report.json", "report.html", "results", "predictions"} <= {
        one.name for one in folder.iterdir()
    }
    runs(cwd, "export", "--to", str(tmp_path / "folder"))
    assert evalmesh("report", str(tmp_path / "folder"), cwd=tmp_path).returncode == 0
    said = runs(cwd, "export", "--to", str(tmp_path / "folder"), code=2).stderr
    assert "is there already" in said


def test_a_run_is_deleted_with_what_it_holds_and_no_other(model, tmp_path):
    first, second = evaluated(model, tmp_path, "a"), evaluated(model, tmp_path, "b")
    objects = tmp_path / "outputs" / ".evalmesh" / "objects" / "runs"
    held = listed(tmp_path, "--name", "a")[0]["size_bytes"]
    assert "would be freed" in runs(tmp_path, "delete", "a", "--dry-run").stdout
    assert len(listed(tmp_path)) == 2
    said = runs(tmp_path, "delete", "a").stdout
    assert "of outputs stay in" in said
    assert f"{held / 1000:.1f} kB" in said
    assert [path.name for path in objects.iterdir()] == [second]
    assert [one["id"] for one in listed(tmp_path)] == [second]
    assert "no run" in runs(tmp_path, "delete", first, code=2).stderr
    runs(tmp_path, "delete", first, "--outputs")  # its outputs alone are left
    assert list((tmp_path / "outputs").glob(f"*_{first}")) == []
    assert evalmesh("report", cwd=tmp_path).returncode == 0
    runs(tmp_path, "prune", "--keep", "0", "--outputs")
    assert (listed(tmp_path), [one.name for one in (tmp_path / "outputs").iterdir()]) == ([], [".evalmesh"])


def test_a_prune_leaves_the_newest_and_what_a_run_that_has_not_succeeded_counts_on(model, slow, tmp_path):
    first = evaluated(model, tmp_path, "a")
    words = ("eval", "--model", "other", "--api-url", slow.url, "--datasets", "starter_math", "--use-cache", first)
    with running(*words, "--name", "b", "--eval-batch-size", "4", cwd=tmp_path) as command:
        until(lambda: "in flight" in command.stderr)
        assert "is going on" in runs(tmp_path, "delete", "b", code=2).stderr
        command.signal(signal.SIGINT)
        assert command.end().returncode == 130
    assert "is reused by" in runs(tmp_path, "delete", "a", code=2).stderr
    assert "0 runs deleted" in runs(tmp_path, "prune", "--keep", "2").stdout
    assert "0 runs deleted" in runs(tmp_path, "prune", "--older-than", "1h").stdout
    said = runs(tmp_path, "prune", "--older-than", "0s")
    assert "2 runs deleted" in said.stdout, said.stderr
    assert listed(tmp_path) == []


def test_without_the_platforms_data_a_list_tells_of_the_outputs_that_are_left(tmp_path):
    for name in ("20261130_072855_1m8nnpnkekh2vw", "20261130_072859_1m8nnpt2g0a1bc"):
        (tmp_path / "outputs" / name).mkdir(parents=True)
        (tmp_path / "outputs" / name / "report.json").write_text("{}")
    done = evalmesh("runs", "list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no runs here; 2 outputs folders are in outputs: evalmesh report FOLDER")
