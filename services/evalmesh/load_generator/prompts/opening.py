"""From what was asked to a stream of bodies: data set, writer, API, and whether they go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import PromptSpec
from evalmesh.load.arrivals import lengths
from evalmesh.load_generator.apis import registry
from evalmesh.load_generator.apis.base import LoadApi
from evalmesh.load_generator.prompts import datasets
from evalmesh.load_generator.prompts.base import Context, Dataset
from evalmesh.load_generator.prompts.bodies import Bodies
from evalmesh.load_generator.prompts.source import Source
from evalmesh.load_generator.prompts.writer import WordWriter, Writer, needs_tokenizer
from evalmesh.load_generator.protocol import FeederSetup

_SPECIAL_APIS = ("embeddings", "rerank")
_TEXTS_ALSO_FOR = {"embeddings": ("random", "custom", "line_by_line", "openqa", "longalpaca", "speed_benchmark")}
"""Data sets of plain texts, which can also be embedded."""


@dataclass(frozen=True, slots=True)
class OpenedPrompts:
    """All there is to make requests."""

    api: LoadApi
    dataset: Dataset
    source: Source
    bodies: Bodies


def open_prompts(setup: FeederSetup) -> OpenedPrompts:
    """Opens data set, tokenizer and API.

    Raises `InvalidInput` or `NotFound` for what does not exist, cannot be read or does not go together, with the field.
    """
    spec, target = setup.prompts, setup.target
    api = registry.get(target.api)
    dataset = _dataset(spec)
    _require_sound(spec, dataset)
    _require_fit(spec, dataset, api)
    writer, renders = _writer(setup, api)
    path = Path(setup.file_path) if setup.file_path else None
    context = Context(target, spec, path, writer, setup.seed, renders=renders)
    context.recorded = dataset.rows is not None and not dataset.timed
    if dataset.rows is not None:
        context.file()  # raises when there is none
    return OpenedPrompts(api, dataset, Source(dataset, context), Bodies(api, target, spec))


def _dataset(spec: PromptSpec) -> Dataset:
    if spec.prompt:
        from evalmesh.load_generator.prompts.datasets.random_text import FIXED  # noqa: PLC0415 - only if needed

        return FIXED
    return datasets.get(spec.dataset)


def _writer(setup: FeederSetup, api: LoadApi) -> tuple[Writer, bool]:
    """The writer, and whether the chat template is rendered here."""
    spec = setup.prompts
    if not setup.tokenizer_path:
        if spec.tokenize:
            raise needs_tokenizer("prompts.tokenize", "token ids are its own")
        return WordWriter(setup.token_scale, setup.token_offset), False
    from evalmesh.load_generator.prompts import exact, tokenizer  # noqa: PLC0415 - only if needed

    loaded = tokenizer.load(Path(setup.tokenizer_path))
    if api.turns_key:
        return exact.TokenWriter(loaded, "chat", setup.token_offset), False
    renders = api.name == "completions" and spec.apply_chat_template and loaded.template is not None
    return exact.TokenWriter(loaded, "rendered" if renders else "text"), renders and not spec.tokenize


def _require_sound(spec: PromptSpec, dataset: Dataset) -> None:
    for field, asked in (("input_tokens", spec.input_tokens), ("output_tokens", spec.output_tokens)):
        if asked is None:
            continue
        lengths.check(asked, f"prompts.{field}")
        if asked.kind == "trace" and not dataset.timed:
            raise InvalidInput(
                f"prompts.{field}.kind is 'trace', and the data set '{spec.dataset}' has no lengths of its own; use "
                "the data set 'trace', or another kind of lengths.",
                {"field": f"prompts.{field}.kind"},
            )
    counts: Mapping[str, int] = {
        "prefix_tokens": spec.prefix_tokens,
        "prefix_count": spec.prefix_count,
        "offset": spec.offset,
        "documents": spec.documents,
        "min_tokens": spec.min_tokens or 0,
    }
    for field, value in counts.items():
        if value < 0:
            raise InvalidInput(f"prompts.{field} is {value}; it must not be negative.", {"field": f"prompts.{field}"})
    if spec.prefix_tokens and dataset.timed:
        raise InvalidInput(
            f"prompts.prefix_tokens is {spec.prefix_tokens}, and a trace has prefixes of its own (or none); set it to "
            "0.",
            {"field": "prompts.prefix_tokens"},
        )


def _require_fit(spec: PromptSpec, dataset: Dataset, api: LoadApi) -> None:
    also = _TEXTS_ALSO_FOR.get(api.name, ())
    fits = api.name in dataset.apis if dataset.apis else api.name not in _SPECIAL_APIS or dataset.name in also
    # A plug-in knows what it takes.
    if not fits and not (api.name not in registry.names() or dataset.name == "prompt"):
        takes = ", ".join(dataset.apis) or "APIs that answer with text"
        raise InvalidInput(
            f"The data set '{spec.dataset}' is for {takes}, and target.api is '{api.name}'; choose another of the two.",
            {"field": "prompts.dataset", "value": spec.dataset},
        )
    if dataset.conversations and not api.turns_key:
        raise InvalidInput(
            f"The data set '{spec.dataset}' holds conversations, and the API '{api.name}' has none; use chat or "
            "responses.",
            {"field": "target.api", "value": api.name},
        )
    if spec.turns is not None and dataset.name == "prompt":
        raise InvalidInput(
            f"prompts.prompt is one text for every request, and '{spec.dataset}' is to be asked turn by turn; leave "
            "out the prompt, or the data set and its turns.",
            {"field": "prompts.prompt"},
        )
    if spec.turns is not None and not dataset.conversations:
        raise InvalidInput(
            f"prompts.turns is given, and the data set '{spec.dataset}' holds no conversations; use one whose name "
            "ends in multi_turn.",
            {"field": "prompts.turns"},
        )
    if spec.tokenize and api.turns_key:
        raise InvalidInput(
            f"prompts.tokenize sends token ids, which the API '{api.name}' does not take; use completions.",
            {"field": "prompts.tokenize"},
        )
