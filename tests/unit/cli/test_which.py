"""What RUN on a command line means."""

import json

import pytest
import yaml

from evalmesh.cli.outputs import LOAD_TESTS, RUNS
from evalmesh.cli.which import seconds_in
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.gateway.ids import new_id

OLD, NEW, STORED = "1jxt21q0060fpy", "1jxwmee00kdjwj", "1jxz6v500tsg8k"
"""Made a day apart."""


@pytest.fixture
def work_dir(tmp_path):
    for run, name in ((OLD, "nightly"), (NEW, "nightly: [b]")):
        folder = tmp_path / f"20250615_120000_{run}"
        folder.mkdir()
        text = yaml.safe_dump({"model": "m", "name": name})
        (folder / "run.yaml").write_text(f"# Repeats the run below\n# run: {run}\n{text}")
    stored = tmp_path / ".evalmesh" / "objects" / "runs" / STORED
    stored.mkdir(parents=True)
    (stored / "spec.json").write_text(json.dumps({"display_name": "by the sdk"}))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "run"),
    [
        (OLD, OLD),
        (f"runs/{OLD}", OLD),
        (f"20250615_120000_{OLD}", OLD),
        (f"20250615_120000_{NEW}", NEW),
        (OLD[:6], OLD),
        (NEW[-5:], NEW),
        ("nightly", OLD),
        ("nightly: [b]", NEW),
        ("by the sdk", STORED),
        (STORED[:6], STORED),
        ("latest", STORED),
    ],
)
def test_a_run_is_what_people_call_it(work_dir, text, run):
    assert RUNS.id_of(text, work_dir) == run


def test_a_folder_names_its_run_wherever_it_was_copied_to(work_dir, tmp_path):
    copy = tmp_path / "copy"
    (work_dir / f"20250615_120000_{OLD}").rename(copy)
    assert RUNS.id_of(str(copy), tmp_path / "elsewhere") == RUNS.id_of(str(copy / "run.yaml"), work_dir) == OLD
    assert RUNS.id_of("copy", work_dir) == OLD


def test_what_means_several_names_them_and_what_means_none_says_so(work_dir):
    with pytest.raises(InvalidInput, match=rf"the beginning of 3 runs.*(?s:\n).*{STORED} of 20.*by the sdk.*\n.*{NEW}"):
        RUNS.id_of(OLD[:3], work_dir)
    with pytest.raises(NotFound, match=r"There is no run 'nigthly' below .* Did you mean nightly\?"):
        RUNS.id_of("nigthly", work_dir)
    with pytest.raises(NotFound, match="There is no load test yet"):
        LOAD_TESTS.id_of("latest", work_dir)
    # A whole id is believed: the platform knows runs that have left nothing here.
    unknown = new_id(1.0)
    assert RUNS.id_of(unknown, work_dir) == unknown


def test_two_of_one_name_are_listed_by_their_times(work_dir):
    folder = work_dir / "again"
    folder.mkdir()
    other = new_id(1.75e9 + 5e6)
    (folder / "run.yaml").write_text(f"# run: {other}\nname: nightly\n")
    with pytest.raises(InvalidInput, match=rf"the name of 2 runs(?s:.*){other} of 2025-08-(?s:.*){OLD} of 2025-06-1"):
        RUNS.id_of("nightly", work_dir)


def test_the_newest_is_the_one_made_last_whatever_was_written_since(work_dir):
    for run in (NEW, OLD):
        (work_dir / f"20250615_120000_{run}" / "report.json").write_text("{}")
    assert RUNS.newest_folder(work_dir).name.endswith(NEW)
    assert seconds_in(NEW) == pytest.approx(1.75e9 + 86_400, abs=1e-3)
