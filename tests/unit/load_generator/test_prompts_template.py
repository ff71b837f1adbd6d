"""Chat templates are rendered as model servers render them, wherever a folder keeps them."""

import gc
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.kit.processes import lives

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.prompts.chat_template import ChatTemplate, find

HELLO = [{"role": "user", "content": "hello"}]


def test_special_tokens_and_the_answers_beginning_are_in_reach() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{{ messages[0].content }}{% if add_generation_prompt %}>{% endif %}", {"bos_token": "<s>"}
    )
    assert template.render(HELLO) == "<s>hello>"


def test_blocks_take_no_space_of_their_own() -> None:
    source = "{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\n"
    assert ChatTemplate(source, {}).render(HELLO) == "hello\n"


def test_what_templates_use_is_there() -> None:
    source = (
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}"
        "{% generation %}{{ {'a': m.content + '<é'} | tojson }}{% endgeneration %}{% endfor %}"
        "{{ strftime_now('%Y') | length }}{{ tools is none }}"
    )
    assert ChatTemplate(source, {}).render(HELLO * 2) == '{"a": "hello<é"}4True'


def test_a_templates_own_complaint_is_the_error() -> None:
    with pytest.raises(InvalidInput, match="no system here"):
        ChatTemplate("{{ raise_exception('no system here') }}", {}).render(HELLO)


def test_a_template_reaches_nothing_of_ours() -> None:
    with pytest.raises(InvalidInput, match="unsafe"):
        ChatTemplate("{{ messages.__class__.__mro__ }}", {}).render(HELLO)
    with pytest.raises(InvalidInput, match="cannot render"):
        ChatTemplate("{{ messages.append(1) }}", {}).render(HELLO)


def test_what_is_no_template_is_told() -> None:
    with pytest.raises(InvalidInput, match="not valid Jinja"):
        ChatTemplate("{% for %}", {})


@pytest.mark.parametrize(
    ("files", "config", "rendered"),
    [
        ({}, {"chat_template": "A{{ messages[0].content }}"}, "Ahello"),
        ({"chat_template.jinja": "B"}, {"chat_template": "A"}, "B"),
        ({"chat_template.json": json.dumps({"chat_template": "C"})}, {}, "C"),
        ({}, {"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}, "D"),
        ({}, {"chat_template": [{"name": "only", "template": "O"}]}, "O"),
        ({}, {"chat_template": "{{ bos_token }}{{ eos_token }}", "bos_token": "<s>", "eos_token": {"content": "</s>"}},
         "<s></s>"),
    ],
)  # fmt: skip
def test_templates_are_found(tmp_path: Path, files: dict[str, str], config: dict[str, object], rendered: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    template = find(tmp_path, config)
    assert template is not None
    assert template.render(HELLO) == rendered


def test_a_folder_may_have_none(tmp_path: Path) -> None:
    assert find(tmp_path, {}) is None
    assert find(tmp_path, {"chat_template": None}) is None


LOOP = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "source",
    [
        LOOP,
        "{% macro again() %}{% for a in range(9) %}{{ again() }}{% endfor %}{% endmacro %}{{ again() }}",
        "{{ 'x' * 100000000000 }}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ '%099999999999d' % 1 }}",
        "{{ 'x'.ljust(99999999999) }}",
        "{{ messages[0].content ** messages[0].content }}",
        "{{ (messages | length + 9) ** 999999999 }}",
        "{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ lipsum(n=100000000) }}",
    ],
)
def test_a_template_that_does_not_end_costs_a_second_and_an_error(source: str) -> None:
    template = ChatTemplate(source, {})
    for _ in range(2):  # and no other second
        with pytest.raises(InvalidInput, match="cannot render"):
            template.render(HELLO)


@pytest.mark.parametrize(
    "source", ["{{ 9 ** (9 ** 9) }}", "{{ 'x' * 99999999999 }}" * 2, "{%" * 100_000, "{{ (" * 5_000]
)
def test_a_template_that_cannot_be_compiled_in_time_is_refused(source: str) -> None:
    with pytest.raises(InvalidInput):
        ChatTemplate(source, {}).render(HELLO)


def test_nothing_is_left_of_a_template_nobody_holds() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    pid = template.pid
    assert lives(pid)
    del template
    gc.collect()
    assert not lives(pid)


def test_threads_share_a_template() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: template.render([{"role": "user", "content": str(n)}]), range(200)))
    assert texts == [str(n) for n in range(200)]


def test_long_messages_pass_whole() -> None:
    text = "é🐍\n" * 300_000
    assert ChatTemplate("{{ messages[0].content }}", {}).render([{"role": "user", "content": text}]) == text
