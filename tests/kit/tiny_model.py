"""Tiny language models in the folders that models are published with: Llama's shape, a tokenizer, a chat template.

    python -m tests.kit.tiny_model FOLDER      # trains the one that adds numbers

`random_model` is made of random numbers in milliseconds and needs no torch. `trained_model` has learned to add two
numbers of two digits and still makes mistakes, so that two ways of asking it can disagree; tests take it from the
fixture `sums_model`, which trains it once for all sessions and workers.
"""

import argparse
import fcntl
import hashlib
import itertools
import json
import math
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>", "<|begin|>")
END, BEGIN = "<|end|>", "<|begin|>"
TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """The size of a model, and what its folder says beside its weights."""

    hidden: int = 32
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int | None = None
    """`None`: the heads share the hidden size out. vLLM knows 32, 64, 80 and more."""
    context: int = 2048
    dtype: str = "float32"
    bos: bool = False
    """Whether the tokenizer puts a start token before every text."""
    template: str | None = TEMPLATE
    tied: bool = True
    """Whether what reads tokens also writes them."""
    window: int | None = None
    """Makes it a Mistral whose attention slides over so many tokens."""
    generation: dict[str, Any] | None = None
    """What generation_config.json says beside the end token."""


def tokenizer(folder: Path, shape: Shape, texts: tuple[str, ...] = ()) -> Tokenizer:
    """One token per byte and, of `texts`, for what is frequent in them; special tokens first."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=[*SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    if shape.bos:
        core.post_processor = processors.TemplateProcessing(
            single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, core.token_to_id(BEGIN))]
        )
    folder.mkdir(parents=True, exist_ok=True)
    core.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": END}
    config["model_max_length"] = shape.context
    if shape.bos:
        config["bos_token"] = BEGIN
    if shape.template is not None:
        config["chat_template"] = shape.template
    write_json(folder / "tokenizer_config.json", config)
    return core


def model_config(shape: Shape, core: Tokenizer) -> dict[str, Any]:
    """What config.json says."""
    own = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    if shape.window is not None:
        own = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": shape.window}
    return {
        **own,
        "vocab_size": core.get_vocab_size(),
        "hidden_size": shape.hidden,
        "intermediate_size": 2 * shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim or shape.hidden // shape.heads,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        "dtype": shape.dtype,
        "bos_token_id": core.token_to_id(BEGIN) if shape.bos else None,
        "eos_token_id": core.token_to_id(END),
    }


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces the file."""
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_configs(folder: Path, shape: Shape, core: Tokenizer) -> dict[str, Any]:
    config = model_config(shape, core)
    write_json(folder / "config.json", config)
    said = {"eos_token_id": config["eos_token_id"], **(shape.generation or {})}
    write_json(folder / "generation_config.json", said)
    return config


def random_model(folder: Path, seed: int = 0, **shape: Any) -> Path:
    """One that says nothing of sense, and not the same thing twice; `shape` as in `Shape`."""
    # Where the two are one, random layers say what they were told.
    form = Shape(**{"tied": False, **shape})
    core = tokenizer(folder, form, _sentences())
    config = _write_configs(folder, form, core)
    rng = np.random.default_rng(seed)
    hidden, head = form.hidden, config["head_dim"]

    def normal(*sizes: int) -> np.ndarray[Any, Any]:
        return (rng.standard_normal(sizes) / math.sqrt(sizes[-1])).astype(np.float32)

    weights = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden) * math.sqrt(hidden)}
    weights["lm_head.weight"] = 2 * normal(config["vocab_size"], hidden)
    weights["model.norm.weight"] = np.ones(hidden, np.float32)
    for layer in range(form.layers):
        name = f"model.layers.{layer}."
        weights[name + "input_layernorm.weight"] = np.ones(hidden, np.float32)
        weights[name + "post_attention_layernorm.weight"] = np.ones(hidden, np.float32)
        weights[name + "self_attn.q_proj.weight"] = normal(form.heads * head, hidden)
        weights[name + "self_attn.k_proj.weight"] = normal(form.kv_heads * head, hidden)
        weights[name + "self_attn.v_proj.weight"] = normal(form.kv_heads * head, hidden)
        weights[name + "self_attn.o_proj.weight"] = normal(hidden, form.heads * head)
        weights[name + "mlp.gate_proj.weight"] = normal(2 * hidden, hidden)
        weights[name + "mlp.up_proj.weight"] = normal(2 * hidden, hidden)
        weights[name + "mlp.down_proj.weight"] = normal(hidden, 2 * hidden)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _sentences() -> tuple[str, ...]:
    """Text for a tokenizer that has tokens of several bytes, and borders between them that shift."""
    rng = random.Random(1)
    words = ["the", "answer", "is", "and", "of", "question", "what", "number", "river", "letter", "opens", "house"]
    return tuple(" ".join(rng.choices(words, k=12)) + rng.choice(".?!") for _ in range(200))


# The one that adds

_RATE = 3e-3
_MOST_STEPS = 1200


def question(a: int, b: int) -> str:
    """What the trained model is asked."""
    return f"{a:02d}+{b:02d}="


def as_prompt(asked: str) -> str:
    """The text that its template makes of a question: what a completion is asked of it with."""
    return f"<|user|>{asked}<|end|><|assistant|>"


def answer(a: int, b: int) -> str:
    """What would be right. Always three digits: so it is learned in half the time."""
    return f"{a + b:03d}"


def sums(number: int, seed: int = 7) -> list[tuple[str, str]]:
    """Questions and their answers; most were never seen in training."""
    rng = random.Random(seed)
    pairs = [(rng.randrange(100), rng.randrange(100)) for _ in range(number)]
    return [(question(a, b), answer(a, b)) for a, b in pairs]


def write_sums(path: Path, number: int, seed: int = 7) -> Path:
    """Rows for general_qa."""
    lines = [json.dumps({"query": asked, "response": right}) for asked, right in sums(number, seed)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_choices(path: Path, number: int, seed: int = 7) -> Path:
    """Rows for general_mcq: the sum among three that are near it."""
    rng = random.Random(seed)
    rows = []
    for asked, right in sums(number, seed):
        near = [value for shift in (-10, -1, 1, 10, 9, 11) if (value := int(right) + shift) >= 0]
        options = [right, *(f"{value:03d}" for value in rng.sample(near, 3))]
        rng.shuffle(options)
        options_by_letter = dict(zip("ABCD", options, strict=True))
        rows.append({"question": asked, **options_by_letter, "answer": "ABCD"[options.index(right)]})
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def trained_model(folder: Path, seed: int = 0, least_loss: float = 0.2) -> Path:
    """Trains until the answers cost `least_loss` nats a token, which leaves some of them wrong."""
    import torch  # noqa: PLC0415 - seconds, and only here
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    shape = Shape(hidden=96, head_dim=32, context=256)
    core = tokenizer(folder, shape)
    config = _write_configs(folder, shape, core)
    # Several threads wait for each other where others work too, and so small a model gains nothing from them.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**{key: config[key] for key in config.keys() - {"architectures", "dtype"}}))
    ids, labels = _lessons(core, seed)
    rows = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE)
    usual = 10.0
    for step in itertools.count():
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 50)
        picked = torch.tensor(rows.choices(range(len(ids)), k=64))
        logits = model(input_ids=ids[picked]).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[picked][:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        usual += 0.1 * (loss.item() - usual)
        if usual < least_loss or step >= _MOST_STEPS:
            break
    model.save_pretrained(folder)
    _write_configs(folder, shape, core)
    return folder


def _lessons(core: Tokenizer, seed: int) -> tuple[Any, Any]:
    """Half of all sums; labels only where the answers are."""
    import torch  # noqa: PLC0415

    rng = random.Random(seed)
    pairs = rng.sample([(a, b) for a in range(100) for b in range(100)], 8000)
    end = core.token_to_id(END)
    ids, labels = [], []
    for a, b in pairs:
        before = core.encode(as_prompt(question(a, b)), add_special_tokens=False).ids
        said = [*core.encode(answer(a, b), add_special_tokens=False).ids, end]
        ids.append(before + said)
        labels.append([-100] * len(before) + said)
    return torch.tensor(ids), torch.tensor(labels)


def kept_model(cache: Path) -> Path:
    """The trained model out of `cache`; made there by the first who asks, in a process of its own."""
    folder = cache / f"sums-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            unfinished = folder.with_suffix(".new")
            subprocess.run([sys.executable, "-m", "tests.kit.tiny_model", str(unfinished)], check=True)
            unfinished.rename(folder)
    return folder


def greedy(model: Any, ids: list[int], tokens: int, ends: tuple[int, ...]) -> Iterator[int]:
    """The least that decoding is: one row, no cache. What everything else is held against."""
    import torch  # noqa: PLC0415

    for _ in range(tokens):
        with torch.inference_mode():
            found = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        yield found
        if found in ends:
            return
        ids = [*ids, found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    trained_model(parser.parse_args().folder)
