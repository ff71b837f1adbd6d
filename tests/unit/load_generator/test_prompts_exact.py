"""A prompt of n tokens has n tokens: under any kind of tokenizer, with everything that stands around the text."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.kit import tokenizers as kit
from tokenizers import Tokenizer as Core

from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.load_generator.prompts import tokenizer
from evalmesh.load_generator.prompts.draws import Draws
from evalmesh.load_generator.prompts.exact import Form, TokenWriter
from evalmesh.load_generator.prompts.words import FIRST, WORDS
from evalmesh.load_generator.prompts.writer import WordWriter

AROUND: dict[str, Callable[[str], str]] = {
    "byte_level": lambda text: f"<|start|>user\n{text.strip()}<|end|>\n<|start|>assistant\n",
    "foreign": lambda text: f"<|start|>user\n{text.strip()}<|end|>\n<|start|>assistant\n",
    "characters": lambda text: f"<|start|>user\n{text.strip()}<|end|>\n<|start|>assistant\n",
    "across_words": lambda text: f"<s>[INST] {text} [/INST]",
}
"""What the chat templates of `kit.tokenizers` make of one message, said once more."""
KINDS = (*AROUND, "pieces")
DRAWS = Draws(7, "test")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: getattr(kit, kind)(tmp_path_factory.mktemp(kind)) for kind in KINDS}


@cache
def core_of(folder: Path) -> Core:
    return Core.from_file(str(folder / "tokenizer.json"))


def as_server(folder: Path, kind: str, form: Form, text: str) -> int:
    """Tokens the way a model server counts them, without any code of ours."""
    core = core_of(folder)
    if form == "chat" and kind in AROUND:
        return len(core.encode(AROUND[kind](text), add_special_tokens=False).ids)
    rendered = AROUND[kind](text) if form == "rendered" else text
    return len(core.encode(rendered, add_special_tokens=True).ids)


@pytest.mark.parametrize("form", ["chat", "text", "rendered"])
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_are_exact(folders: dict[str, Path], kind: str, form: Form) -> None:
    if kind == "pieces" and form == "rendered":
        form = "text"  # it has no template
    writer = TokenWriter(tokenizer.load(folders[kind]), form)
    for number in range(12):
        for tokens in (writer.least, writer.least + 1, writer.least + 5, 64, 199, 700):
            text = writer.prompt(DRAWS, number, tokens)
            assert as_server(folders[kind], kind, form, text) == tokens


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_cuts_are_exact(folders: dict[str, Path], kind: str) -> None:
    writer = TokenWriter(tokenizer.load(folders[kind]), "chat")
    core = core_of(folders[kind])
    for tokens in (1, 2, 16, 130):
        assert len(core.encode(writer.part(DRAWS, tokens, tokens), add_special_tokens=False).ids) == tokens
    long = writer.part(DRAWS, 0, 900)
    for tokens in (60, 61, 500):
        text = writer.cut(long, tokens)
        assert long.startswith(text[: len(text) // 2])
        assert as_server(folders[kind], kind, "chat", text) == tokens


def test_additivity_is_proved_where_words_stay_apart_and_only_there(folders: dict[str, Path]) -> None:
    proved = {kind: TokenWriter(tokenizer.load(folders[kind]), "text").proved for kind in KINDS}
    assert proved == {"byte_level": True, "foreign": True, "pieces": True, "characters": False, "across_words": False}


def test_tokens_of_the_other_tokenizer_do_cross_words(folders: dict[str, Path]) -> None:
    """Else the test above would show nothing."""
    vocabulary = core_of(folders["across_words"]).get_vocab()
    assert any(re.search(r"\w▁\w", token) for token in vocabulary)


@pytest.mark.parametrize("kind", ["byte_level", "across_words"])
def test_shared_prefixes_are_part_of_the_length(folders: dict[str, Path], kind: str) -> None:
    writer = TokenWriter(tokenizer.load(folders[kind]), "chat")
    prefix = writer.part(Draws(1, "prefix"), 0, 40)
    for number in range(5):
        text = writer.prompt(DRAWS, number, 100, prefix)
        assert text.startswith(prefix)
        assert as_server(folders[kind], kind, "chat", text) == 100


def test_prompts_differ_and_are_the_same_again(folders: dict[str, Path]) -> None:
    writer = TokenWriter(tokenizer.load(folders["byte_level"]), "chat")
    texts = [writer.prompt(DRAWS, number, 40) for number in range(500)]
    assert len(set(texts)) == 500
    again = TokenWriter(tokenizer.load(folders["byte_level"]), "chat")
    assert again.prompt(Draws(7, "test"), 321, 40) == texts[321]
    assert again.prompt(Draws(8, "test"), 321, 40) != texts[321]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_short_is_refused_with_the_least(folders: dict[str, Path], kind: str) -> None:
    writer = TokenWriter(tokenizer.load(folders[kind]), "chat")
    with pytest.raises(InvalidInput, match=f"shortest possible has {writer.least}:") as caught:
        writer.prompt(DRAWS, 0, writer.least - 1)
    assert caught.value.details["field"] == "prompts.input_tokens.low"
    assert writer.prompt(DRAWS, 0, writer.least)


def test_a_broken_promise_of_additivity_is_noticed(folders: dict[str, Path]) -> None:
    """As if the proof had been wrong: samples are counted, and then everything is."""
    writer = TokenWriter(tokenizer.load(folders["across_words"]), "chat")
    writer._proved, writer._per_word = True, 1.0
    for number in range(30):
        text = writer.prompt(DRAWS, number, 60)
        if number == 8:
            assert not writer.proved
    assert as_server(folders["across_words"], "across_words", "chat", text) == 60


def test_token_ids_are_words_of_the_vocabulary(folders: dict[str, Path]) -> None:
    loaded = tokenizer.load(folders["byte_level"])
    ids = TokenWriter(loaded, "text").ids(DRAWS, 3, 50)
    assert len(ids) == 50
    assert set(loaded.core.decode(list(ids)).split()) <= set(WORDS)


def test_later_turns_count_what_stands_around_them(folders: dict[str, Path]) -> None:
    """Two turns with an answer between them: the whole chat is the sum of its parts."""
    writer = TokenWriter(tokenizer.load(folders["byte_level"]), "chat")
    first = writer.prompt(DRAWS, 0, 50)
    answer, later = writer.part(DRAWS, 1, 20), writer.part(DRAWS, 2, 30 - writer.around_later)
    chat = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": later},
    ]
    assert writer.count_messages(chat) == 50 + 20 + 30


def test_a_template_that_takes_no_history_costs_nothing_later(tmp_path: Path) -> None:
    folder = kit.byte_level(
        tmp_path, "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0].content }}"
    )
    assert TokenWriter(tokenizer.load(folder), "chat").around_later == 0


def test_without_a_template_a_measured_offset_is_counted(tmp_path: Path) -> None:
    loaded = tokenizer.load(kit.byte_level(tmp_path, None))
    assert TokenWriter(loaded, "chat", 9).least == 10
    assert "9 tokens" in TokenWriter(loaded, "chat", 9).note
    assert "no chat template" in TokenWriter(loaded, "chat").note


class TestWithoutATokenizer:
    def test_a_word_is_a_token(self) -> None:
        text = WordWriter().prompt(DRAWS, 0, 30)
        assert len(text.split(" ")) == 30
        assert text.split(" ")[0] in FIRST
        assert set(text.split(" ")) <= set(WORDS)

    def test_a_measured_scale_and_offset_are_kept_to(self) -> None:
        writer = WordWriter(1.25, 12)
        assert len(writer.prompt(DRAWS, 0, 112).split(" ")) == 80
        assert "1.25 tokens per word and 12 around" in writer.note
        assert "near" in writer.note

    def test_words_that_are_one_token_each_are_exact(self) -> None:
        assert "exact" in WordWriter(1.0, 12).note

    def test_a_prefix_is_part_of_the_length(self) -> None:
        writer = WordWriter()
        prefix = writer.part(DRAWS, 0, 10)
        text = writer.prompt(DRAWS, 1, 30, prefix)
        assert text.startswith(prefix + " ")
        assert len(text.split(" ")) == 30
        with pytest.raises(InvalidInput, match="shortest possible has 11"):
            writer.prompt(DRAWS, 1, 10, prefix)

    def test_token_ids_need_a_tokenizer(self) -> None:
        with pytest.raises(InvalidInput, match="tokenizer"):
            WordWriter().ids(DRAWS, 0, 4)


class TestFolders:
    def test_a_folder_without_the_file_is_not_found(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match=r"tokenizer\.json"):
            tokenizer.load(tmp_path)

    def test_a_broken_file_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
        with pytest.raises(InvalidInput, match="cannot be read"):
            tokenizer.load(tmp_path)

    def test_truncation_in_the_file_is_not_obeyed(self, tmp_path: Path) -> None:
        folder = kit.byte_level(tmp_path)
        saved = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        saved["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
        (folder / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
        assert tokenizer.load(folder).count(" ".join(WORDS[:100])) == 100
