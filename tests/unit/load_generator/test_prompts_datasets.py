"""Every kind of data set, in the forms that people have it."""

import base64
import io
import json
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.kit import tokenizers as kit

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import (
    ArrivalSpec,
    ImageSpec,
    Lengths,
    LoadTarget,
    LoadTestSpec,
    PromptSpec,
    TurnSpec,
)
from evalmesh.load.arrivals.schedule import Share
from evalmesh.load_generator.prompts import datasets, inspection, preview
from evalmesh.load_generator.prompts.base import LoadPrompt
from evalmesh.load_generator.prompts.opening import open_prompts
from evalmesh.load_generator.prompts.source import Source
from evalmesh.load_generator.protocol import FeederSetup

TARGET = LoadTarget("http://127.0.0.1:9/v1/chat/completions", "tiny")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(kit.byte_level(tmp_path_factory.mktemp("tokenizer")))


def source(spec: PromptSpec, path: Path | None = None, tokenizer: str = "", api: str = "chat") -> Source:
    target = LoadTarget(TARGET.url, "tiny", api)
    return open_prompts(FeederSetup(target, spec, str(path or ""), tokenizer, 42, 0, 1)).source


def first(count: int, *args: Any, **kwargs: Any) -> list[LoadPrompt]:
    return [prompt for prompt, _ in islice(source(*args, **kwargs).prompts(0, Share()), count)]


def written(folder: Path, name: str, *rows: object) -> Path:
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class TestRandom:
    def test_lengths_follow_the_distribution_and_prompts_know_theirs(self, tokenizer: str) -> None:
        spec = PromptSpec(input_tokens=Lengths("uniform", 20, 60), output_tokens=Lengths("uniform", 5, 9))
        opened = source(spec, tokenizer=tokenizer)
        made = list(islice(opened.prompts(0, Share()), 2000))
        assert {prompt.tokens for prompt, _ in made} == set(range(20, 61))
        assert {limit for _, limit in made} == set(range(5, 10))
        assert all(opened.context.writer.count(prompt.text) == prompt.tokens for prompt, _ in made[:200])
        # Not every server knows a key that makes it go on behind its end mark.
        assert not any(prompt.exact_output for prompt, _ in made)

    def test_seats_together_make_what_one_makes(self) -> None:
        spec = PromptSpec(input_tokens=Lengths("normal", 5, 40, 20, 5), prefix_tokens=2, prefix_count=3)
        alone = list(islice(source(spec).prompts(100, Share()), 30))
        shared = [list(islice(source(spec).prompts(100, Share(seat, 3)), 10)) for seat in range(3)]
        assert [shared[n % 3][n // 3] for n in range(30)] == alone

    def test_prefixes_are_shared_evenly(self, tokenizer: str) -> None:
        spec = PromptSpec(input_tokens=Lengths("fixed", 60, 60), prefix_tokens=20, prefix_count=4)
        starts = [" ".join(prompt.text.split(" ")[:20]) for prompt in first(400, spec, tokenizer=tokenizer)]
        counts = [starts.count(start) for start in set(starts)]
        assert len(counts) == 4
        assert min(counts) > 60

    def test_impossible_lengths_are_refused_at_once(self, tokenizer: str) -> None:
        with pytest.raises(InvalidInput, match="asks for a prompt of 12 tokens; the shortest possible has 15"):
            source(PromptSpec(input_tokens=Lengths("uniform", 12, 60), prefix_tokens=5), tokenizer=tokenizer)

    def test_a_normal_distribution_is_cut_at_the_shortest_prompt(self, tokenizer: str) -> None:
        made = first(300, PromptSpec(input_tokens=Lengths("normal", 1, 40, 12, 8)), tokenizer=tokenizer)
        assert min(prompt.tokens for prompt in made) == 10

    def test_token_ids(self, tokenizer: str) -> None:
        spec = PromptSpec(input_tokens=Lengths("fixed", 30, 30), tokenize=True, prefix_tokens=10)
        made = first(5, spec, tokenizer=tokenizer, api="completions")
        assert all(len(prompt.token_ids or ()) == 30 for prompt in made)
        assert len({(prompt.token_ids or ())[:10] for prompt in made}) == 1

    def test_completions_get_the_template_rendered(self, tokenizer: str) -> None:
        spec = PromptSpec(input_tokens=Lengths("fixed", 30, 30))
        (rendered,) = first(1, spec, tokenizer=tokenizer, api="completions")
        assert rendered.text.startswith("<|start|>user\n")
        plain = PromptSpec(input_tokens=Lengths("fixed", 30, 30), apply_chat_template=False)
        (bare,) = first(1, plain, tokenizer=tokenizer, api="completions")
        assert len(bare.text.split(" ")) == 30

    def test_speed_benchmark(self) -> None:
        assert [prompt.tokens for prompt in first(9, PromptSpec("speed_benchmark"))] == [
            1, 1, 6144, 6144, 14336, 14336, 30720, 30720, 1,
        ]  # fmt: skip
        assert [prompt.tokens for prompt in first(4, PromptSpec("speed_benchmark_long"))] == [
            63488, 63488, 129024, 129024,
        ]  # fmt: skip

    def test_one_prompt_for_all_is_a_repetition(self) -> None:
        opened = source(PromptSpec(prompt="hello"))
        made = list(islice(opened.prompts(0, Share()), 3))
        assert [prompt.text for prompt, _ in made] == ["hello"] * 3
        assert opened.repeated


class TestConversations:
    def test_every_turn_adds_what_was_asked(self, tokenizer: str) -> None:
        spec = PromptSpec("random_multi_turn", input_tokens=Lengths("fixed", 40, 40), turns=TurnSpec(2, 5))
        opened = source(spec, tokenizer=tokenizer)
        made = [prompt for prompt, _ in islice(opened.prompts(0, Share()), 100)]
        assert {len(prompt.turns) for prompt in made} == {2, 3, 4, 5}
        chat: list[dict[str, object]] = [{"role": "user", "content": made[0].turns[0]}]
        assert opened.context.writer.count_messages(chat) == 40
        chat += [{"role": "assistant", "content": "of"}, {"role": "user", "content": made[0].turns[1]}]
        assert opened.context.writer.count_messages(chat) == 40 + 1 + 40
        assert made[0].turn_tokens[:2] == (40, 40)

    @pytest.mark.parametrize(
        "row",
        [
            {"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "A"},
                               {"from": "gpt", "value": "x"}, {"from": "human", "value": "B"}]},
            {"conversation": [{"role": "system", "content": "S"}, {"role": "user", "content": "A"},
                              {"role": "assistant", "content": "x"}, {"role": "user", "content": "B"}]},
            [{"role": "system", "content": "S"}, {"role": "user", "content": "A"}, {"role": "user", "content": "B"}],
        ],
    )  # fmt: skip
    def test_known_forms(self, tmp_path: Path, row: object) -> None:
        path = written(tmp_path, "a.jsonl", row)
        (whole,) = first(1, PromptSpec("custom_multi_turn"), path)
        assert (whole.system, whole.turns) == ("S", ("A", "B"))
        (start,) = first(1, PromptSpec("sharegpt"), path)
        assert start.messages == ({"role": "system", "content": "S"}, {"role": "user", "content": "A"})

    def test_questions_and_pairs(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.jsonl", {"turns": ["A", "B"]}, {"conversation": [{"human": "C", "assistant": "x"}]})
        assert [prompt.turns for prompt in first(2, PromptSpec("custom_multi_turn"), path)] == [("A", "B"), ("C",)]

    def test_turns_are_bounded(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.jsonl", *({"turns": ["x"] * n} for n in (1, 2, 5)))
        opened = source(PromptSpec("custom_multi_turn", turns=TurnSpec(2, 3)), path)
        assert [len(prompt.turns) for prompt, _ in islice(opened.prompts(0, Share()), 2)] == [2, 3]
        assert "1 rows were left out: with fewer than 2 turns." in opened.notes
        assert [len(p.turns) for p in first(3, PromptSpec("custom_multi_turn", turns=TurnSpec(1, 1)), path)] == [
            1,
            1,
            1,
        ]
        assert [len(p.turns) for p in first(3, PromptSpec("custom_multi_turn"), path)] == [1, 2, 5]

    def test_an_api_without_conversations_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="conversations") as caught:
            source(PromptSpec("sharegpt_multi_turn"), tmp_path / "x", api="completions")
        assert caught.value.details["field"] == "target.api"


class TestTexts:
    @pytest.mark.parametrize(
        ("dataset", "name", "row", "text"),
        [
            ("openqa", "a.jsonl", {"question": "why?"}, "why?"),
            ("longalpaca", "a.json", [{"instruction": "read"}], "read"),
            ("custom", "a.jsonl", {"prompt": "p"}, "p"),
            ("custom", "a.json", [{"query": "q"}], "q"),
            ("custom", "a.csv", "id,question\n1,w", "w"),
            ("custom", "a.txt", "{plain}", "{plain}"),
            ("line_by_line", "a.txt", "[not json", "[not json"),
        ],
    )
    def test_known_forms(self, tmp_path: Path, dataset: str, name: str, row: object, text: str) -> None:
        (prompt,) = first(1, PromptSpec(dataset, file_name=name), written(tmp_path, name, row))
        assert prompt.text == text

    def test_a_column_can_be_named(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.jsonl", {"prompt": "p", "mine": "m"})
        assert first(1, PromptSpec("custom", args={"column": "mine"}), path)[0].text == "m"

    def test_lines_may_be_chats_or_bodies(self, tmp_path: Path) -> None:
        chat = [{"role": "user", "content": "c"}]
        path = written(tmp_path, "a.txt", "t", chat, {"messages": chat, "max_tokens": 3, "top_p": 1})
        opened = source(PromptSpec("line_by_line", output_tokens=Lengths("fixed", 8, 8)), path)
        text, listed, whole = islice(opened.prompts(0, Share()), 3)
        assert (text[0].text, text[1]) == ("t", 8)
        assert (listed[0].messages, listed[1]) == (tuple(chat), 8)
        assert (whole[0].body, whole[1]) == ({"messages": chat, "max_tokens": 3, "top_p": 1}, 3)

    def test_lengths_are_counted_with_the_tokenizer(self, tmp_path: Path, tokenizer: str) -> None:
        path = written(tmp_path, "a.jsonl", {"prompt": "of the"}, {"messages": [{"role": "user", "content": "of the"}]})
        assert [prompt.tokens for prompt in first(2, PromptSpec("custom"), path, tokenizer)] == [11, 11]

    def test_rows_out_of_bounds_are_left_out_and_counted(self, tmp_path: Path, tokenizer: str) -> None:
        path = written(tmp_path, "a.jsonl", *({"prompt": " ".join(["of"] * n)} for n in range(1, 21)))
        opened = source(PromptSpec("custom", input_tokens=Lengths("uniform", 14, 19)), path, tokenizer)
        made = [prompt.tokens for prompt, _ in islice(opened.prompts(0, Share()), 12)]
        assert made == [14, 15, 16, 17, 18, 19] * 2
        assert opened.repeated
        assert "14 rows were left out: outside prompts.input_tokens (14 to 19)." in opened.notes

    def test_without_a_tokenizer_bounds_are_estimates_and_say_so(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.txt", "x" * 40, "y" * 400, "漢" * 12)
        opened = source(PromptSpec("line_by_line", input_tokens=Lengths("uniform", 8, 14)), path)
        assert [prompt.text[0] for prompt, _ in islice(opened.prompts(0, Share()), 2)] == ["x", "漢"]
        assert any("estimate" in note for note in opened.notes)

    def test_rows_are_skipped_cycled_and_gone_on_with(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.txt", *(f"r{n}" for n in range(6)))
        opened = source(PromptSpec("line_by_line", offset=2), path)

        def texts(start: int, count: int, share: Share = Share()) -> list[str]:  # noqa: B008 - frozen
            return [prompt.text for prompt, _ in islice(opened.prompts(start, share), count)]

        assert texts(0, 2) == ["r2", "r3"]
        assert not opened.repeated
        assert texts(2, 3) == ["r4", "r5", "r2"]
        assert opened.repeated
        assert texts(5, 2) == ["r3", "r4"]
        assert texts(3, 2) == ["r5", "r2"]
        assert texts(10**6 * 4 + 1, 1) == ["r3"]
        assert texts(0, 2, Share(1, 3)) == ["r3", "r2"]

    def test_a_shared_prefix_comes_before_the_text(self, tmp_path: Path, tokenizer: str) -> None:
        path = written(tmp_path, "a.txt", "of the", "in a")
        made = first(2, PromptSpec("line_by_line", prefix_tokens=12), path, tokenizer)
        assert made[0].tokens == 9 + 12 + 2
        assert made[0].text.split(" ")[:12] == made[1].text.split(" ")[:12]


class TestBadRows:
    def test_a_few_are_left_out_and_told(self, tmp_path: Path) -> None:
        rows: list[object] = [{"question": f"q{n}"} for n in range(250)]
        rows[3], rows[220] = "{broken", {"answer": "no question"}
        opened = source(PromptSpec("openqa", file_name="a.jsonl"), written(tmp_path, "a.jsonl", *rows))
        assert len(list(islice(opened.prompts(0, Share()), 248))) == 248
        assert not opened.repeated
        opened.look(10_000)
        assert any("2 bad rows were left out; the first is line 4: not valid JSON" in note for note in opened.notes)

    def test_many_are_a_wrong_file(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.jsonl", *({"answer": n} for n in range(50)))
        with pytest.raises(InvalidInput, match=r"first is line 1: it has no question, only answer") as caught:
            first(1, PromptSpec("openqa"), path)
        assert caught.value.details["field"] == "prompts.file_digest"

    def test_none_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="no row that can be used"):
            first(1, PromptSpec("line_by_line"), written(tmp_path, "a.txt", ""))
        with pytest.raises(InvalidInput, match="1 bad rows were left out; the first is line 1"):
            first(1, PromptSpec("openqa"), written(tmp_path, "a.jsonl", "{"))


class TestEmbeddingsAndRerank:
    def test_texts_are_put_together_as_asked(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.txt", "a", "b", "c")
        opened = source(PromptSpec("embedding", documents=2), path, api="embeddings")
        assert [prompt.texts for prompt, _ in islice(opened.prompts(0, Share()), 2)] == [("a", "b"), ("a", "b")]
        assert any("too few at the end" in note for note in opened.notes)
        assert first(1, PromptSpec("embedding"), path, api="embeddings")[0].text == "a"

    def test_documents_are_ranked(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.jsonl", {"query": "q", "documents": ["x", {"text": "y"}, "z"]})
        (prompt,) = first(1, PromptSpec("rerank", documents=2), path, api="rerank")
        assert (prompt.query, prompt.texts) == ("q", ("x", "y"))

    def test_random_ones_have_exact_lengths(self, tmp_path: Path) -> None:
        folder = str(kit.pieces(tmp_path))
        asked = Lengths("fixed", 12, 12)
        (prompt,) = first(
            1, PromptSpec("random_embedding", input_tokens=asked, documents=3), None, folder, "embeddings"
        )
        assert (len(prompt.texts), prompt.tokens) == (3, 36)
        spec = PromptSpec("random_rerank", input_tokens=asked, documents=4, args={"query_tokens": 5})
        opened = source(spec, None, folder, "rerank")
        prompt, _ = next(opened.prompts(0, Share()))
        core = opened.context.writer._tokenizer.core  # type: ignore[attr-defined]
        assert prompt.tokens == sum(len(core.encode(prompt.query, text).ids) for text in prompt.texts)

    def test_data_set_and_api_must_go_together(self) -> None:
        with pytest.raises(InvalidInput, match=r"is for rerank, and target\.api is 'chat'"):
            source(PromptSpec("random_rerank"))
        with pytest.raises(InvalidInput, match="APIs that answer with text"):
            source(PromptSpec("random"), api="rerank")
        assert first(1, PromptSpec("random"), api="embeddings")[0].text


class TestImages:
    def test_random_ones_are_different_and_as_asked(self) -> None:
        spec = PromptSpec("random_vl", input_tokens=Lengths("fixed", 9, 9), images=ImageSpec(2, 60, 40, "L"))
        prompts = first(3, spec)
        urls = [part["image_url"]["url"] for p in prompts for part in p.messages[0]["content"][:2]]  # type: ignore[index]
        assert len(set(urls)) == 6
        image = Image.open(io.BytesIO(base64.b64decode(urls[0].partition(",")[2])))
        assert (image.format, image.size, image.mode) == ("PNG", (60, 40), "L")
        assert len(prompts[0].messages[0]["content"][2]["text"].split(" ")) == 9  # type: ignore[index]
        assert prompts[0].tokens == 0

    @pytest.mark.parametrize("packed", ["folder", "zip"])
    def test_a_folder_or_zip_of_images(self, tmp_path: Path, packed: str) -> None:
        folder = tmp_path / "images"
        folder.mkdir()
        for name in ("a.png", "b.jpg"):
            Image.new("RGB", (4, 4)).save(folder / name)
        (folder / "labels.csv").write_text("x", encoding="utf-8")
        path = folder
        if packed == "zip":
            path = tmp_path / "images.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for file in sorted(folder.iterdir()):
                    archive.write(file, file.name)
        opened = source(PromptSpec("flickr8k", args={"prompt": "What is it?"}), path)
        made = [prompt.messages[0]["content"] for prompt, _ in islice(opened.prompts(0, Share()), 3)]
        kinds = [content[0]["image_url"]["url"].partition(";")[0] for content in made]  # type: ignore[index]
        assert kinds == ["data:image/png", "data:image/jpeg", "data:image/png"]
        assert made[0][1] == {"type": "text", "text": "What is it?"}  # type: ignore[index]
        assert "1 rows were left out: which are no images." in opened.notes

    def test_what_is_no_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="folder or a ZIP"):
            first(1, PromptSpec("image_folder"), written(tmp_path, "a.txt", "x"))


class TestNames:
    def test_every_name_is_a_data_set(self) -> None:
        assert len(datasets.names()) >= 24
        assert all(datasets.get(name).summary for name in datasets.names())

    def test_a_wrong_name_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(InvalidInput, match="Did you mean 'openqa'"):
            datasets.get("openq")

    def test_a_file_is_asked_for(self) -> None:
        with pytest.raises(InvalidInput, match="reads a file, and none is given"):
            source(PromptSpec("openqa"))


class TestCheckAndPreview:
    def test_notes_and_bodies(self, tmp_path: Path, tokenizer: str) -> None:
        path = written(tmp_path, "a.jsonl", {"question": "of the"}, "{")
        spec = LoadTestSpec(TARGET, PromptSpec("openqa", file_name="a.jsonl"))
        notes = inspection.check(spec, str(path), tokenizer)
        assert "counted with the given tokenizer" in notes[0]
        assert "1 bad rows were left out" in notes[-1]
        ((body, tokens),) = preview(spec, str(path), tokenizer, 1)
        assert json.loads(body)["messages"] == [{"role": "user", "content": "of the"}]
        assert tokens == 11

    def test_a_conversation_shows_its_first_turn(self) -> None:
        prompts = PromptSpec(
            "random_multi_turn", input_tokens=Lengths("fixed", 6, 6), output_tokens=Lengths("fixed", 4, 4)
        )
        ((body, tokens),) = preview(LoadTestSpec(TARGET, prompts))
        assert len(json.loads(body)["messages"]) == 1
        assert json.loads(body)["max_tokens"] == 4
        assert tokens == 6

    def test_replay_needs_times(self) -> None:
        with pytest.raises(InvalidInput, match="does not say when") as caught:
            inspection.check(LoadTestSpec(TARGET, arrival=ArrivalSpec("trace")))
        assert caught.value.details["field"] == "arrival.kind"

    @pytest.mark.parametrize(
        ("prompts", "field"),
        [
            (PromptSpec(input_tokens=Lengths("trace")), "prompts.input_tokens.kind"),
            (PromptSpec(output_tokens=Lengths("uniform", 9, 3)), "prompts.output_tokens.high"),
            (PromptSpec(prefix_tokens=-1), "prompts.prefix_tokens"),
            (PromptSpec(tokenize=True), "prompts.tokenize"),
            (PromptSpec("trace", prefix_tokens=4), "prompts.prefix_tokens"),
            (PromptSpec("random_vl", images=ImageSpec(1, 0, 9)), "prompts.images"),
            (PromptSpec("random_vl", args={"patch": 0.5}), "prompts.args.patch"),
            (PromptSpec(template="{"), "prompts.template"),
            (PromptSpec(turns=TurnSpec(2, 2)), "prompts.turns"),
        ],
    )
    def test_what_is_wrong_is_named_by_field(self, prompts: PromptSpec, field: str) -> None:
        with pytest.raises(InvalidInput) as caught:
            inspection.check(LoadTestSpec(TARGET, prompts))
        assert caught.value.details["field"] == field


class TestRealFiles:
    @pytest.mark.parametrize(
        ("spec", "name", "rows"),
        [
            (PromptSpec("custom"), "prompts/dolly_hhrlhf_sample.jsonl", 100),
            (PromptSpec("line_by_line"), "prompts/nyc_wikipedia.txt", 200),
            (PromptSpec("sharegpt"), "prompts/fastchat_dummy_conversation.json", 500),
            (PromptSpec("share_gpt_en_multi_turn"), "prompts/glaive_toolcall_sample.json", 50),
            (PromptSpec("custom_multi_turn"), "mt_bench/question.jsonl", 80),
            (PromptSpec("custom", args={"column": "context"}), "longbench/multifieldqa_zh_sample.jsonl", 10),
        ],
    )
    def test_they_are_read(self, shared_data: Path, tokenizer: str, spec: PromptSpec, name: str, rows: int) -> None:
        opened = source(spec, shared_data / name, tokenizer)
        made = [prompt for prompt, _ in islice(opened.prompts(0, Share()), rows)]
        assert not opened.repeated
        assert all(prompt.turns or prompt.tokens for prompt in made)


class TestPlugIns:
    CODE = (
        "from evalmesh.load_generator.prompts.base import Dataset, LoadPrompt\n"
        "GREETINGS = Dataset('greetings', 'Greetings.', make=lambda context: lambda n: LoadPrompt(text=f'hello {n}'))\n"
        "def _rows(context):\n"
        "    yield from (LoadPrompt(text=line) for line in context.file().read_text().split())\n"
        "WORDS = Dataset('own_words', 'Words.', rows=_rows)\n"
        "EMPTY = Dataset('nothing', 'Neither.')\n"
    )
    POINTS = (
        "[evalmesh.load_datasets]\ngreetings = own_plug_in:GREETINGS\nown_words = own_plug_in:WORDS\n"
        "nothing = own_plug_in:EMPTY\ngone = own_plug_in:GONE\n"
    )

    @pytest.fixture(autouse=True)
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """As pip leaves a package: a module, and what its distribution says of itself."""
        info = tmp_path / "site" / "own_plug_in-1.0.dist-info"
        info.mkdir(parents=True)
        (tmp_path / "site" / "own_plug_in.py").write_text(self.CODE, encoding="utf-8")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-plug-in\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(self.POINTS, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def test_prompts_of_an_installed_package(self, tmp_path: Path) -> None:
        assert {"greetings", "own_words"} <= set(datasets.names())
        assert [prompt.text for prompt in first(2, PromptSpec("greetings"))] == ["hello 0", "hello 1"]
        path = written(tmp_path, "a.txt", "a b c")
        assert [prompt.text for prompt in first(4, PromptSpec("own_words"), path)] == ["a", "b", "c", "a"]

    @pytest.mark.parametrize(
        ("name", "complaint"), [("nothing", "either `make` or `rows`"), ("gone", "AttributeError")]
    )
    def test_one_that_cannot_be_used_is_named(self, name: str, complaint: str) -> None:
        with pytest.raises(InvalidInput, match=complaint):
            datasets.get(name)
