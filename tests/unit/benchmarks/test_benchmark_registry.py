import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark, DatasetInfo
from evalmesh.benchmarks.rows import lettered_columns
from evalmesh.benchmarks.shapes.multiple_choice import MultipleChoice
from evalmesh.domain.errors import InvalidInput


def make(name="own_quiz"):
    return Benchmark(name, 1, "Own", "", DatasetInfo(), MultipleChoice(), lettered_columns)


def provide():
    return [make()]


def provide_taken():
    return [make("gsm8k")]


def provide_bad_name():
    return [make("Own Quiz!")]


def provide_text():
    return ["own_quiz"]


def provide_nothing():
    raise RuntimeError("no licence")


@pytest.fixture
def installed(monkeypatch):
    """Installs one of the functions above as an entry point."""

    def install(function):
        point = EntryPoint("own", f"{__name__}:{function.__name__}", registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])
        monkeypatch.setitem(sys.modules, __name__, sys.modules[function.__module__])
        registry._installed.cache_clear()

    yield install
    registry._installed.cache_clear()


def test_names_are_sorted_and_every_benchmark_answers_to_its_own():
    names = registry.names()
    assert list(names) == sorted(names)
    assert {"gsm8k", "arc", "mmlu", "general_mcq", "starter_math", "starter_mcq"} <= set(names)
    assert tuple(benchmark.name for benchmark in registry.all_benchmarks()) == names


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InvalidInput, match=r"no benchmark named 'gms8k'\. Did you mean 'gsm8k'\?"):
        registry.get("gms8k")
    with pytest.raises(InvalidInput, match="Known are: arc, boolq, drop, general_mcq"):
        registry.get("xyz")


def test_every_benchmark_is_described_and_its_own_defaults_are_valid():
    for benchmark in registry.all_benchmarks():
        assert benchmark.title
        assert benchmark.description.endswith(".")
        assert benchmark.dataset.license
        assert benchmark.version >= 1
        assert benchmark.few_shot_num <= benchmark.few_shot_max
        assert all("{" + name + "}" in benchmark.shape.template for name in benchmark.shape.placeholders)
        assert sys.modules[f"evalmesh.benchmarks.{benchmark.name}"].__doc__


def test_looking_at_the_registry_imports_no_benchmark():
    code = (
        "import sys, evalmesh.benchmarks.registry; print([m for m in sys.modules if m.endswith(('gsm8k', 'shapes'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_installed_package_adds_benchmarks(installed):
    installed(provide)
    assert registry.get("own_quiz") == make()
    assert "own_quiz" in registry.names()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (provide_taken, "brings a benchmark named 'gsm8k', a name that is taken"),
        (provide_bad_name, "brings a benchmark named 'Own Quiz!'; names are lower-case letters"),
        (provide_text, "returned a str where a Benchmark is expected"),
        (provide_nothing, "failed with RuntimeError: no licence. Repair or uninstall that package"),
    ],
)
def test_a_broken_package_is_named_and_leaves_the_built_in_ones_alone(installed, function, message):
    installed(function)
    with pytest.raises(InvalidInput, match=message):
        registry.names()
    assert registry.get("gsm8k").name == "gsm8k"
