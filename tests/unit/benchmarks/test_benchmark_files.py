"""Files become samples: the real rows, your own questions, the hubs' Parquet."""

from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.query import query_for
from evalmesh.benchmarks.samples import MalformedRow, RowSource, choose_shots, iter_samples
from evalmesh.benchmarks.spec import few_shot_num, selected_subsets
from evalmesh.domain.run import BenchmarkSpec


@pytest.fixture
def source():
    return LocalDatasets()


def load(source, spec, dataset_dir=""):
    """Samples, malformed rows and solved examples of all selected subsets."""
    benchmark = registry.get(spec.name)
    query = partial(query_for, benchmark, spec, dataset_dir=dataset_dir, dataset_hub="huggingface")
    columns, good, bad, shots = benchmark.dataset.columns, [], [], []
    found = () if benchmark.subsets else source.subsets(query())
    for subset in selected_subsets(benchmark, spec, found):
        files = source.resolve(query(subset))
        if few_shot_num(benchmark, spec):
            solved = source.resolve(query(subset, few_shot=True))
            shots += choose_shots(
                benchmark, spec, RowSource(lambda files=solved: source.rows(files, columns)), subset, 1
            )
        for one in iter_samples(
            benchmark, spec, RowSource(lambda files=files: source.rows(files, columns)), subset, None, 1
        ):
            (bad if isinstance(one, MalformedRow) else good).append(one)
    return good, bad, shots


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "counts", "n_shots"),
    [
        ("gsm8k", {"main": 1319}, 4),
        ("arc", {"ARC-Challenge": 1172, "ARC-Easy": 594}, 0),
        ("mmlu", {"anatomy": 27, "professional_law": 307}, 285),
    ],
)
def test_the_real_rows_all_become_samples(source, shared_data, name, counts, n_shots):
    by_path = load(source, BenchmarkSpec(name, local_path=str(shared_data / name)))
    assert by_path == load(source, BenchmarkSpec(name), dataset_dir=str(shared_data))
    good, bad, shots = by_path
    assert bad == []
    assert len(shots) == n_shots
    for subset, count in counts.items():
        assert sum(sample.subset == subset for sample in good) == count
    assert len({sample.id for sample in good}) == len(good)
    assert all(sample.target[0] in "ABCDE"[: len(sample.choices)] for sample in good if sample.choices)


@pytest.mark.shared_data
def test_the_real_rows_of_mmlu_are_complete(source, shared_data):
    spec = BenchmarkSpec("mmlu", local_path=str(shared_data / "mmlu"), few_shot_num=0)
    good, _, _ = load(source, spec)
    assert len(good) == 2827
    assert len({sample.subset for sample in good}) == 57


OWN = "id,question,A,B,C,answer\n7,Which?,x,y,z,B\n8,Whose?,x,y,,A\n9,What?,x,y,z,D\n"


def test_own_questions_come_from_a_folder_of_subsets(source, tmp_path):
    for name in ("law_val.csv", "law_dev.csv", "tax_val.csv", "tax_dev.csv"):
        (tmp_path / name).write_text(OWN)
    good, bad, shots = load(source, BenchmarkSpec("general_mcq", local_path=str(tmp_path), few_shot_num=2))
    assert [sample.id for sample in good] == ["law/0", "law/1", "tax/0", "tax/1"]
    assert [sample.choices for sample in good[:2]] == [("x", "y", "z"), ("x", "y")]
    assert [str(row) for row in bad] == [
        f"{subset}/2: {subset}_val.csv: line 4: column 'answer' is 'D', expected one letter of A, B, C or the text of "
        "an option"
        for subset in ("law", "tax")
    ]
    assert len(shots) == 4


@pytest.mark.parametrize("name", ["my questions.csv", "folder/val.csv", "folder/default_val.csv"])
def test_own_questions_come_from_one_file(source, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(OWN)
    place = path if path.parent == tmp_path else path.parent
    good, bad, _ = load(source, BenchmarkSpec("general_mcq", local_path=str(place)))
    assert [sample.id for sample in good] == ["default/0", "default/1"]
    assert len(bad) == 1


def test_the_hubs_own_rows_of_arc_are_read_from_parquet(source, tmp_path):
    row = {"id": "M", "question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}
    folder = tmp_path / "datasets--allenai--ai2_arc/snapshots/abc"
    for subset in ("ARC-Easy", "ARC-Challenge"):
        (folder / subset).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row]), folder / subset / "test-00000-of-00001.parquet")
    good, bad, _ = load(source, BenchmarkSpec("arc"), dataset_dir=str(tmp_path))
    assert [(sample.id, sample.target) for sample in good] == [("ARC-Easy/0", ("B",)), ("ARC-Challenge/0", ("B",))]
    assert bad == []


def test_subsets_in_a_column_need_no_file_of_their_own(source, tmp_path):
    row = '{"question": "q", "choices": ["x", "y"], "answer": "A", "subject": "%s"}\n'
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(row % subject for subject in ("arts", "history", "arts")))
    good, bad, _ = load(source, BenchmarkSpec("starter_mcq", local_path=str(path)))
    assert [sample.id for sample in good] == ["history/1", "arts/0", "arts/2"]
    assert bad == []


@pytest.mark.parametrize(("hub", "hub_id"), [("modelscope", "AI-ModelScope/gsm8k"), ("huggingface", "openai/gsm8k")])
def test_the_hub_decides_the_id_and_the_user_overrides_it(hub, hub_id):
    gsm8k = registry.get("gsm8k")
    assert query_for(gsm8k, BenchmarkSpec("gsm8k"), "main", dataset_hub=hub).hub_id == hub_id
    spec = BenchmarkSpec("gsm8k", dataset_id="me/mine", revision="v2", split="train", few_shot_split="dev")
    query = query_for(gsm8k, spec, "main", dataset_hub=hub)
    assert (query.hub_id, query.revision, query.split, query.only_subset) == ("me/mine", "v2", "train", True)
    assert query_for(gsm8k, spec, "main", few_shot=True).split == "dev"
