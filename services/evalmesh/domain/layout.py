"""Where things lie in the object store. The one place that knows.

datasets/{sha256}                                   one pinned source file
completions/{sha256}                                imported completions
runs/{run}/plan.json                                RunPlan
runs/{run}/{benchmark}/requests/{shard}.jsonl       ShardHeader, then PlannedSample per line
runs/{run}/{benchmark}/completions/{shard}.jsonl    Completion per line
runs/{run}/{benchmark}/checkpoints/{shard}/{n}.jsonl   completions of an unfinished shard, in parts
runs/{run}/{benchmark}/scores/{shard}.jsonl         Score per line
runs/{run}/results/{benchmark}.parquet              sample results
runs/{run}/report.json, report.html
"""

import re

_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def is_safe_name(name: str) -> bool:
    """Whether a name may be a path segment and a subject token (dots are refused in subjects by `wire`)."""
    return _SAFE.fullmatch(name) is not None and ".." not in name


def dataset_key(sha256: str) -> str:
    """One pinned source file."""
    return f"datasets/{sha256}"


def imported_completions_key(sha256: str) -> str:
    """Completions made elsewhere, as uploaded."""
    return f"completions/{sha256}"


def run_prefix(run: str) -> str:
    """Everything of a run."""
    return f"runs/{run}/"


def plan_key(run: str) -> str:
    """The run's plan."""
    return f"runs/{run}/plan.json"


def requests_key(run: str, benchmark: str, shard: int) -> str:
    """Samples and requests of a shard."""
    return f"runs/{run}/{benchmark}/requests/{shard:06d}.jsonl"


def completions_key(run: str, benchmark: str, shard: int) -> str:
    """All completions of a shard."""
    return f"runs/{run}/{benchmark}/completions/{shard:06d}.jsonl"


def checkpoint_prefix(run: str, benchmark: str, shard: int) -> str:
    """Checkpoints of an unfinished shard."""
    return f"runs/{run}/{benchmark}/checkpoints/{shard:06d}/"


def scores_key(run: str, benchmark: str, shard: int) -> str:
    """All scores of a shard."""
    return f"runs/{run}/{benchmark}/scores/{shard:06d}.jsonl"


def results_key(run: str, benchmark: str) -> str:
    """Sample results as Parquet."""
    return f"runs/{run}/results/{benchmark}.parquet"


def report_json_key(run: str) -> str:
    """The report."""
    return f"runs/{run}/report.json"


def report_html_key(run: str) -> str:
    """The report as one page."""
    return f"runs/{run}/report.html"
