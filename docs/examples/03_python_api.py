"""An evaluation from Python: a config in, the report out."""

import tempfile

from evalmesh import TaskConfig, run_task

with tempfile.TemporaryDirectory() as folder:
    # demo: the built-in simulated model. Yours: model="...", api_url="http://127.0.0.1:8000/v1".
    report = run_task(TaskConfig(demo=True, datasets=["starter_math"], limit=20, work_dir=folder))

for benchmark in report["benchmarks"]:
    for metric in benchmark["metrics"]:
        low, high = metric["ci95"]
        print(f"{benchmark['name']} {metric['name']}: {metric['value']:.3f} (95 %: {low:.3f} to {high:.3f})")
        print(f"  of {metric['n_scored']} scored; {metric['n_errored']} errored, {metric['n_unscored']} unscored")
