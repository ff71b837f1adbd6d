"""Two probes tell how a server counts words."""

import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTarget, LoadTestSpec, PromptSpec
from evalmesh.load_generator.prompts.calibration import calibrate, calibration_prompts, needs_calibration
from evalmesh.load_generator.prompts.draws import Draws
from evalmesh.load_generator.prompts.writer import WordWriter

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")


def test_the_probes_have_the_words_they_say() -> None:
    probes = calibration_prompts()
    assert [len(text.split(" ")) for text, _ in probes] == [words for _, words in probes]
    assert len({words for _, words in probes}) == 2


def test_a_server_that_counts_words_is_understood_exactly() -> None:
    lengths = [words for _, words in calibration_prompts()]
    assert calibrate(lengths, [words + 9 for words in lengths]) == (1.0, 9)


def test_prompts_then_have_the_asked_length_at_that_server() -> None:
    scale, offset = calibrate([16, 272], [16 * 2 + 11, 272 * 2 + 11])
    text = WordWriter(scale, offset).prompt(Draws(1, "x"), 0, 211)
    assert 2 * len(text.split(" ")) + 11 == 211


def test_a_fraction_is_kept() -> None:
    scale, offset = calibrate([16, 272], [31, 350])
    assert scale == pytest.approx(1.246, abs=0.001)
    assert offset == 11


def test_a_server_that_does_not_count_is_not_believed() -> None:
    assert calibrate([16, 272], [1, 1]) == (0.0, 0)
    assert calibrate([16, 272], [9, 5]) == (0.0, 0)


def test_one_probe_is_too_few() -> None:
    with pytest.raises(InvalidInput, match="two"):
        calibrate([16], [20])


@pytest.mark.parametrize(
    ("prompts", "needed"),
    [
        (PromptSpec(), True),
        (PromptSpec("trace"), True),
        (PromptSpec("openqa"), False),
        (PromptSpec(prompt="hi"), False),
        (PromptSpec(tokenizer_digest="0f"), False),
    ],
)
def test_only_prompts_that_we_make_need_it(prompts: PromptSpec, needed: bool) -> None:  # noqa: FBT001
    assert needs_calibration(LoadTestSpec(TARGET, prompts)) is needed
