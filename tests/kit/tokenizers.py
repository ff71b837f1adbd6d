"""Small tokenizers, trained here on text of ours, in the folders that models are published with."""

import json
from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from evalmesh.load_generator.prompts.words import WORDS

CHAT = (
    "{% for message in messages %}<|start|>{{ message.role }}\n{{ message.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}"
    "{% endif %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SENTENCES = (
    "The library opens at nine and closes at six.",
    "A river runs through the valley, and the road follows it.",
    "Write a short letter to the owner of the shop!",
    "What is the sum of 12, 35 and 408?",
    "user system assistant",
)


def _text(seed: int = 1) -> list[str]:
    """Lines with every word of ours in any order, and with pairs that are frequent enough to grow together."""
    rng = Random(seed)
    lines = [" ".join(rng.choices(WORDS, k=40)) for _ in range(900)]
    lines += [" ".join(rng.choice(("of the", "in the", "it is", "to be")) for _ in range(40)) for _ in range(300)]
    return [*lines, *SENTENCES * 50]


def _save(core: Tokenizer, folder: Path, template: object, **special: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    config = {**special, **({"chat_template": template} if template is not None else {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def byte_level(folder: Path, template: object = CHAT) -> Path:
    """BPE on bytes that cuts text at words first, like GPT's and Qwen's; ChatML-like template."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        _text(),
        trainers.BpeTrainer(
            vocab_size=4000,
            special_tokens=["<|start|>", "<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _save(core, folder, template, eos_token="<|end|>")


def across_words(folder: Path, template: object = STRICT) -> Path:
    """BPE in the manner of SentencePiece, over whole lines: its tokens do cross the borders of words.

    A start token stands before every text, as with Llama 2, and the template insists on roles that take turns.
    """
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Replace("▁", " ")
    core.train_from_iterator(
        _text(2),
        trainers.BpeTrainer(vocab_size=5000, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False),
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", core.token_to_id("<s>"))]
    )
    return _save(core, folder, template, bos_token={"content": "<s>"}, eos_token={"content": "</s>"})


def pieces(folder: Path, template: object = None) -> Path:
    """WordPiece with marks around texts and pairs, like BERT's: for embeddings and rerankers; no template."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.train_from_iterator(
        _text(3),
        trainers.WordPieceTrainer(vocab_size=4000, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
    )
    marks = [("[CLS]", core.token_to_id("[CLS]")), ("[SEP]", core.token_to_id("[SEP]"))]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=marks
    )
    return _save(core, folder, template)


def characters(folder: Path, template: object = CHAT) -> Path:
    """One token per byte, like ByT5: no word is one token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [],
        trainers.BpeTrainer(
            special_tokens=["<|start|>", "<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _save(core, folder, template)


def foreign(folder: Path, template: object = CHAT) -> Path:
    """Cuts at words and knows none of ours: its vocabulary is of words made up here."""
    rng = Random(4)
    own = ["".join(rng.choices("bdfgklmnprstvz", k=2)) + "oou" + str(chr(97 + n % 26)) for n in range(300)]
    core = Tokenizer(models.BPE(unk_token=None))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+|\s+|[^\s\p{L}]+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [" ".join(rng.choices(own, k=40)) for _ in range(300)],
        trainers.BpeTrainer(
            vocab_size=1500,
            special_tokens=["<|start|>", "<|end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _save(core, folder, template)
