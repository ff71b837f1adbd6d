"""Where things lie in the object store. The one place that knows.

datasets/{sha256}                                   one pinned source file
hubs/listings/{repo}/{commit}.json                  Snapshot: all files of a hub's repository at a commit
hubs/blobs/{oid}                                    sha256 of a small file that its hub announces by another sum
media/{sha256}                                      an image, a sound, a film
completions/{sha256}                                imported completions
runs/{run}/spec.json                                RunSpec, which a run's record would grow with
runs/{run}/{benchmark}/sources.json                 DatasetSources, before the plan: the files that the rows are in
runs/{run}/{benchmark}/plan.json                    BenchmarkPlan, before the first shard
runs/{run}/{benchmark}/index.json                   BenchmarkIndex, after the last one
runs/{run}/{benchmark}/requests/{shard}.jsonl       ShardHeader with what the rows share, then PlannedSample per line
runs/{run}/{benchmark}/{stage}/{shard}.jsonl        what the stage made of the shard: Completion or Score per line
runs/{run}/{benchmark}/parts/{stage}/{shard}/{n}.jsonl   completions of an unfinished shard, in parts
runs/{run}/{benchmark}/folded/{block}.json          partial tallies of a block of shards
runs/{run}/{benchmark}/folded/{block}.parquet       its rows of the results
runs/{run}/{benchmark}/folded/report.json           BenchmarkReport
runs/{run}/results/{benchmark}.parquet              sample results
runs/{run}/report.json, report.html
load/files/{sha256}                                 data set or tokenizer of a load test, as uploaded
loadtests/{load_test}/levels/{n}/records/{seat}.bin    request records (`load.measure.records`) of one seat
loadtests/{load_test}/levels/{n}/ticks/{seat}.bin      seconds (`load.measure.ticks`) of one seat
loadtests/{load_test}/levels/{n}/slices/{seat}.json    how the level ended for one seat
loadtests/{load_test}/levels/{n}/order.json            which generators perform the level
loadtests/{load_test}/levels/{n}/level.json            the level's document
loadtests/{load_test}/perf.json, perf_report.html, requests.parquet
"""

import re

_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


REQUESTS = "requests"
"""Stands where a stage's name does: the planned requests."""
RESERVED_STAGES = (REQUESTS, "parts", "folded")
"""Names that no stage may have."""


def is_safe_name(name: str) -> bool:
    """Whether a name may be a path segment and a subject token (dots are refused in subjects by `wire`)."""
    return _SAFE.fullmatch(name) is not None and ".." not in name


def dataset_key(sha256: str) -> str:
    """One pinned source file."""
    return f"datasets/{sha256}"


def hub_listing_key(repo: str, commit: str) -> str:
    """All files of a repository at a commit."""
    return f"hubs/listings/{repo}/{commit}.json"


def hub_blob_key(oid: str) -> str:
    """Says which pinned file has the bytes that Git calls so."""
    return f"hubs/blobs/{oid}"


def imported_completions_key(sha256: str) -> str:
    """Completions made elsewhere, as uploaded."""
    return f"completions/{sha256}"


def media_key(sha256: str) -> str:
    """Bytes of media in messages, once for all runs."""
    return f"media/{sha256}"


def spec_key(run: str) -> str:
    """What was asked for."""
    return f"runs/{run}/spec.json"


def run_prefix(run: str) -> str:
    """Everything of a run."""
    return f"runs/{run}/"


def benchmark_prefix(run: str, benchmark: str) -> str:
    """Everything of one benchmark of a run but its results file."""
    return f"runs/{run}/{benchmark}/"


def sources_key(run: str, benchmark: str) -> str:
    """Which files its rows are in, and where they are from."""
    return f"{benchmark_prefix(run, benchmark)}sources.json"


def plan_key(run: str, benchmark: str) -> str:
    """How the benchmark is executed."""
    return f"{benchmark_prefix(run, benchmark)}plan.json"


def index_key(run: str, benchmark: str) -> str:
    """Which shards there are."""
    return f"{benchmark_prefix(run, benchmark)}index.json"


def output_prefix(run: str, benchmark: str, stage: str) -> str:
    """Outputs of a stage, one per shard; `requests` are the planner's."""
    return f"{benchmark_prefix(run, benchmark)}{stage}/"


def output_key(run: str, benchmark: str, stage: str, shard: int) -> str:
    """What a stage made of a shard."""
    return f"{output_prefix(run, benchmark, stage)}{shard:06d}.jsonl"


def parts_prefix(run: str, benchmark: str, stage: str, shard: int) -> str:
    """Checkpoints of an unfinished shard."""
    return f"{all_parts_prefix(run, benchmark, stage)}{shard:06d}/"


def all_parts_prefix(run: str, benchmark: str, stage: str) -> str:
    """Checkpoints of all unfinished shards of a stage."""
    return f"{benchmark_prefix(run, benchmark)}parts/{stage}/"


def folded_prefix(run: str, benchmark: str) -> str:
    """What is folded of a benchmark."""
    return f"{benchmark_prefix(run, benchmark)}folded/"


def tallies_key(run: str, benchmark: str, block: int) -> str:
    """Partial tallies of a block of shards."""
    return f"{folded_prefix(run, benchmark)}{block:06d}.json"


def rows_key(run: str, benchmark: str, block: int) -> str:
    """Rows of the results of a block of shards."""
    return f"{folded_prefix(run, benchmark)}{block:06d}.parquet"


def benchmark_report_key(run: str, benchmark: str) -> str:
    """What the report says about one benchmark."""
    return f"{folded_prefix(run, benchmark)}report.json"


def results_key(run: str, benchmark: str) -> str:
    """Sample results as Parquet."""
    return f"runs/{run}/results/{benchmark}.parquet"


def report_json_key(run: str) -> str:
    """The report."""
    return f"runs/{run}/report.json"


def report_html_key(run: str) -> str:
    """The report as one page."""
    return f"runs/{run}/report.html"


def load_file_key(sha256: str) -> str:
    """Data set or tokenizer of a load test, as uploaded."""
    return f"load/files/{sha256}"


def level_prefix(load_test: str, level: int) -> str:
    """Everything of one level."""
    return f"loadtests/{load_test}/levels/{level:04d}/"


def level_order_key(load_test: str, level: int) -> str:
    """Which generators perform the level; written before it begins."""
    return f"{level_prefix(load_test, level)}order.json"


def level_records_key(load_test: str, level: int, seat: int) -> str:
    """Request records of one seat."""
    return f"{level_prefix(load_test, level)}records/{seat}.bin"


def level_ticks_key(load_test: str, level: int, seat: int) -> str:
    """Seconds of one seat."""
    return f"{level_prefix(load_test, level)}ticks/{seat}.bin"


def level_slice_key(load_test: str, level: int, seat: int) -> str:
    """How the level ended for one seat; written last, so that it says that the others are there."""
    return f"{level_prefix(load_test, level)}slices/{seat}.json"


def level_key(load_test: str, level: int) -> str:
    """The level's document; written once the level is over."""
    return f"{level_prefix(load_test, level)}level.json"


def perf_json_key(load_test: str) -> str:
    """The report of a load test."""
    return f"loadtests/{load_test}/perf.json"


def perf_html_key(load_test: str) -> str:
    """The report of a load test as one page."""
    return f"loadtests/{load_test}/perf_report.html"


def load_requests_key(load_test: str) -> str:
    """Every request of a load test as Parquet."""
    return f"loadtests/{load_test}/requests.parquet"
