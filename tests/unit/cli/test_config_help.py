"""What a notebook shows of the configs."""

import inspect
import pydoc

import pytest

from evalmesh import PerfConfig, TaskConfig


@pytest.mark.parametrize(("config", "internal"), [(TaskConfig, set()), (PerfConfig, {"notes"})])
def test_help_is_a_line_for_each_field_and_nothing_of_pydantics(config, internal):
    text = pydoc.plain(pydoc.render_doc(config))
    for name in set(config.model_fields) - internal:
        assert text.count(f" |  {name}: ") == 1, name
    assert "Flag(" not in text
    assert not [word for word in ("model_dump", "model_fields", "__pydantic", "parse_obj", "Annotated") if word in text]
    assert len(text.splitlines()) < len(config.model_fields) + 40


def test_the_signature_has_the_defaults():
    parameters = inspect.signature(TaskConfig).parameters
    assert next(iter(parameters)) == "demo"
    assert (parameters["repeats"].default, parameters["model"].default) == (1, None)
    assert TaskConfig(repeats=2).repeats == 2
