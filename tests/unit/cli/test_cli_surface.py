import json
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from evalmesh.cli.__main__ import exit_code, main
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.live import RunProgress, Speed
from evalmesh.cli.eval.outcome import Outcome, lost_count
from evalmesh.cli.eval.show import make_console, show_outcome
from evalmesh.cli.eval.spec import repeating
from evalmesh.cli.flags import build_parser, parse
from evalmesh.cli.foreign import FOREIGN_FLAGS
from evalmesh.cli.live import clock_text
from evalmesh.cli.outputs import RUNS
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.domain import errors
from evalmesh.domain.run import BenchmarkProgress, BenchmarkSpec, ModelSpec, Run, RunSpec, RunState

SPEC = RunSpec(
    model=ModelSpec(name="m", url="http://h/v1", key_ref="env:EVALMESH_API_KEY"), benchmarks=(BenchmarkSpec("gsm8k"),)
)
RUN = Run(id="20260101-abc", spec=SPEC, state=RunState.SUCCEEDED, create_time=1.75e9)


def subcommand(parser, name):
    """The parser of one command."""
    return next(action for action in parser._actions if action.dest == "command").choices[name]


def report(scored=5, errored=0, not_run=0):
    metric = {"name": "acc", "value": 1.0, "stderr": 0.0, "ci95": [0.5, 1.0]}
    metric |= {"n_scored": scored, "n_errored": errored, "n_unscored": 0}
    benchmark = {"name": "gsm8k", "primary_metric": "acc", "metrics": [metric], "subsets": [], "categories": []}
    benchmark |= {"n_not_run": not_run, "error_classes": {"timeout": errored}, "errored_samples": []}
    model = {"label": "m", "name": "m", "url": "", "simulated": False}
    run = {"id": "r1", "display_name": "", "create_time": "2026-01-01T00:00:00Z"}
    return {"schema_version": 1, "run": run, "model": model, "benchmarks": [benchmark], "benchmarks_not_reported": []}


@pytest.mark.parametrize(("value", "command"), [(1.0, "samples"), (0.8, "samples --wrong")])
def test_wrong_answers_are_offered_where_there_are_some(tmp_path, capsys, value, command):
    done = report()
    done["benchmarks"][0]["metrics"][0]["value"] = value
    show_outcome(
        make_console(), Outcome(RUN, tmp_path, done | {"run": {**done["run"], "duration_s": 1.0}}), work_dir="w"
    )
    words = capsys.readouterr().out.splitlines()[-1].split()
    assert [word for word in words if word != str(tmp_path)] == ["next", "evalmesh", *command.split()]


def test_help_is_light_and_documents_exit_codes():
    code = (
        "import sys; from evalmesh.cli.__main__ import main; main(['eval', '--help']); "
        "print('LOADED', [m for m in ('grpc','nats','aiohttp','pyarrow','pydantic','rich','yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    assert "exit codes:" in done.stdout
    assert "--generation-config" in done.stdout


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        *(([word], "Did you mean up?") for word in ("serve", "server", "start")),
        (["mock"], "Did you mean simulate?"),
        (["stop"], "evalmesh runs cancel"),
        (["stroe"], "Did you mean store?"),
        (["eval", "--modle", "x"], "--model"),
        (["eval", "--api_key", "sk-secret"], "--api-key"),
        (["evl"], "Did you mean eval?"),
        (["zzz"], "'zzz' is none of eval, perf, "),
        (["perf", "compare", "a", "b", "--fail-on", "zzz"], "'zzz' is none of never, worse, undecided."),
        (["eval", "--tasks", "gsm8k"], "Use --datasets."),
        (["eval", "--num_fewshot", "3"], "Did you mean --num-fewshot?"),
        (["eval", "--quiet"], "standard error: 2>/dev/null"),
        (["eval", "--zzz", "x"], "evalmesh eval --help"),
        (["perf", "--request-rate", "3"], "Use --rate."),
        (["eval", "--demo", "--repeats", "x"], "--repeats"),
    ],
)
def test_a_mistyped_command_line_is_2_with_a_hint(argv, hint, capsys):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert "sk-secret" not in printed.err
    assert printed.err.count("\n") == 1


def test_without_a_command_there_is_the_help(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


def test_what_other_tools_call_things_leads_to_flags_that_exist():
    for command, meant in FOREIGN_FLAGS.items():
        parser = build_parser([command.split()[1]])
        flags = subcommand(parser, command.split()[1])._option_string_actions
        for name, use in meant.items():
            words = [word for word in use.split() if word.startswith("--")]
            assert f"--{name}" not in flags, (command, name)
            assert [word for word in words if word not in flags and not use.startswith("evalmesh ")] == [], (name, use)


def test_errors_are_one_sentence_without_a_traceback(capsys):
    assert main(["eval", "--model", "m", "--api-url", "nonsense", "--datasets", "gsm8k"]) == 2
    assert main(["eval", "--judge-strategy", "llm"]) == 2
    assert main(["runs", "list", "--server", "127.0.0.1:1"]) == 5
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "Traceback" not in err
    assert main(["eval", "--judge-strategy", "llm", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_each_error_class_has_its_exit_code():
    codes = {"Unavailable": 5, "Unauthenticated": 5, "DeadlineExceeded": 5, "InvalidInput": 2, "NotFound": 2}
    codes |= {"FailedPrecondition": 2, "Unimplemented": 2, "InternalError": 1, "ResourceExhausted": 1}
    assert {name: exit_code(getattr(errors, name).reason) for name in codes} == codes


def test_only_what_was_said_is_in_the_namespace(monkeypatch):
    monkeypatch.delenv("EVALMESH_SERVER", raising=False)
    said = vars(parse(["eval", "--datasets", "a", "b", "--no-stream"]))
    assert {k for k in said if k not in {"command", "module", "parser", "config"}} == {"datasets", "stream"}
    assert (said["datasets"], said["stream"]) == (["a", "b"], False)
    monkeypatch.setenv("EVALMESH_SERVER", "h:1")
    assert parse(["eval"]).server == "h:1"


@pytest.mark.parametrize(
    ("words", "config", "no_flag"),
    [(["eval"], TaskConfig, set()), (["perf"], PerfConfig, {"notes"})],
)
def test_each_option_of_a_config_is_a_flag(words, config, no_flag, monkeypatch):
    monkeypatch.delenv("EVALMESH_SERVER", raising=False)
    args = parse(words)
    flags = {one.dest for one in args.parser._actions if one.option_strings}
    assert set(config.model_fields) - flags == no_flag
    assert config(**{name: value for name, value in vars(args).items() if name in config.model_fields}) == config()


@pytest.mark.parametrize(
    ("state", "doc", "reason", "ignore", "code"),
    [
        (RunState.SUCCEEDED, report(), "", False, 0),
        (RunState.SUCCEEDED, report(errored=1), "", False, 3),
        (RunState.SUCCEEDED, report(errored=1), "", True, 0),
        (RunState.SUCCEEDED, report(scored=0, errored=5), "", True, 1),
        (RunState.CANCELLED, report(not_run=5), "", False, 4),
        (RunState.FAILED, None, "INTERNAL", False, 1),
        (RunState.FAILED, None, "UNAVAILABLE", False, 5),
    ],
)
def test_exit_codes_of_runs(tmp_path, state, doc, reason, ignore, code):
    outcome = Outcome(replace(RUN, state=state, error_reason=reason), tmp_path, doc)
    assert outcome.exit_code(ignore_errors=ignore) == code


def test_lost_requests_are_counted():
    assert lost_count(report(scored=5, errored=2, not_run=3)) == (5, 5)


def test_run_yaml_repeats_the_run_and_holds_no_key(tmp_path):
    config = TaskConfig(
        model="m", api_url="http://h/v1", datasets=["gsm8k"], limit=5, api_key="sk-secret", work_dir=str(tmp_path)
    )
    folder = RUNS.folder_of(RUN, tmp_path)
    RUNS.write_config(repeating(config, SPEC), RUN, folder)
    text = (folder / "run.yaml").read_text()
    assert "sk-secret" not in text
    again = TaskConfig(**yaml.safe_load(text))
    assert (again.model, again.limit, again.api_key.get_secret_value()) == ("m", 5, "env:EVALMESH_API_KEY")
    assert RUNS.id_of(str(folder)) == RUNS.id_of(str(folder / "run.yaml")) == RUNS.id_of("runs/20260101-abc") == RUN.id
    assert RUNS.find_folder(RUN.id, tmp_path) == folder
    with pytest.raises(errors.NotFound, match=r"run\.yaml"):
        RUNS.id_of(str(tmp_path))


def test_report_prints_every_form(tmp_path, capsys):
    (tmp_path / "report.json").write_text(json.dumps(report(errored=2)))
    for form, words in (("table", "gsm8k"), ("json", '"n_scored": 5'), ("markdown", "| m | gsm8k |")):
        assert main(["report", str(tmp_path), "--format", form]) == 0
        assert words in capsys.readouterr().out
    assert main(["report", "nope", "--work-dir", str(tmp_path)]) == 2
    assert "nope" in capsys.readouterr().err


def test_a_terminal_that_knows_few_letters_gets_what_it_can_show(tmp_path, monkeypatch):
    (tmp_path / "report.json").write_text(json.dumps(report()).replace('"m"', '"модель \\ud800"'))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = [sys.executable, "-m", "evalmesh.cli", "report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1.0000" in done.stdout


def test_benchmarks_need_no_platform(capsys):
    assert main(["benchmarks", "list", "--format", "json"]) == 0
    assert "starter_math" in [one["name"] for one in json.loads(capsys.readouterr().out)]
    assert main(["benchmarks", "preview", "starter_mcq", "--samples", "1"]) == 0
    assert "expected:" in capsys.readouterr().out
    assert main(["benchmarks", "info", "starter_mth"]) == 2
    assert "starter_math" in capsys.readouterr().err


def test_speed_and_time_left():
    speed = Speed()
    assert (speed.per_s, speed.eta_s(5)) == (None, None)
    for second in range(31):
        speed.add(float(second), 10 * second if second < 20 else 200 + 20 * (second - 20))
    assert speed.per_s == pytest.approx(20.0)
    assert speed.eta_s(100) == pytest.approx(5.0)
    assert [clock_text(s) for s in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]


def test_plain_progress_is_a_line_now_and_then(capsys):
    times = iter([0.0, 0.5, 3.0, 3.1])
    with RunProgress(make_console(stderr=True), live=False, now=lambda: next(times)) as progress:
        for done in (0, 10, 60, 100):
            one = BenchmarkProgress("gsm8k", total=100, done=done, generated=done, in_flight=8, errored=1, value=0.5)
            state = RunState.SUCCEEDED if done == 100 else RunState.RUNNING
            progress.update(replace(RUN, state=state, benchmarks=(one,)))
    err = capsys.readouterr().err
    assert "10/100" not in err
    assert "gsm8k: 60/100 done, 8 in flight, 1 errored, 20.0/s, ETA 0:02, score 0.5000" in err
    assert "succeeded" not in err  # whoever shows the end says so
