import pytest
from tests.unit.report.builders import CREATED, make_plan, make_run

from evalmesh.report_aggregator.runs.report_json import build_report


@pytest.fixture
def build():
    """Builds a report from domain values: `build(*benchmarks, run=..., plan=...)`."""

    def _build(*benchmarks, run=None, plan=None):
        plan = plan or make_plan(*(benchmark.name for benchmark in benchmarks))
        return build_report(run or make_run(), plan, benchmarks, CREATED + 96)

    return _build
