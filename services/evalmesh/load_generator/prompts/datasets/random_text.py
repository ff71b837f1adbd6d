"""Prompts of random words: any number of them, each of exactly the length that was drawn for it.

Answers are limited (`output_tokens`) and may end before, as the model likes: a server that ignores end marks on request
is asked for that with `prompts.body`, since one that knows no such key would refuse every request.
"""

from collections.abc import Callable

from evalmesh.domain.load_test import Lengths
from evalmesh.load.arrivals import lengths
from evalmesh.load_generator.prompts import draws
from evalmesh.load_generator.prompts.base import Context, Dataset, LoadPrompt
from evalmesh.load_generator.prompts.prefixes import Prefixes
from evalmesh.load_generator.prompts.writer import too_short

_USUAL = Lengths("fixed", 1024, 1024)
"""Where no length was asked for."""
_SPEEDS = (1, 6144, 14336, 30720)
_LONG_SPEEDS = (63488, 129024)
_REPEATS = 2
_MOST_TURNS = 64


def input_lengths(context: Context) -> Lengths:
    """The asked distribution of prompt lengths; raises `InvalidInput` for one that begins below the shortest prompt."""
    asked = context.spec.input_tokens or _USUAL
    lengths.check(asked, "prompts.input_tokens")
    prefix = context.spec.prefix_tokens
    # The range of a normal distribution is only a bound: what is drawn below is as long as the shortest prompt.
    if asked.kind in {"fixed", "uniform"} and not context.spec.tokenize and asked.low < context.writer.least + prefix:
        raise too_short(asked.low, context.writer.least + prefix)
    return asked


class RandomTexts:
    """Texts by number. Without a fixed length one look into the table of random numbers more per text."""

    def __init__(self, context: Context) -> None:
        asked = input_lengths(context)
        self._context = context
        self._draw = lengths.sampler(asked)
        self._fixed = asked.low if asked.kind == "fixed" else 0
        self._least = context.writer.least + context.spec.prefix_tokens
        self._sizes = draws.Draws(context.seed, "input length")
        self.texts = draws.Draws(context.seed, "text")
        self._prefixes = Prefixes(context)

    def length(self, number: int) -> int:
        """Tokens of prompt `number`."""
        return self._fixed or max(self._least, self._draw(self._sizes.uniforms(number)[draws.INPUT]))

    def text(self, number: int, tokens: int) -> str:
        """The text of prompt `number`, with its prefix."""
        return self._context.writer.prompt(self.texts, number, tokens, self._prefixes.of(number))


def _random(context: Context) -> Callable[[int], LoadPrompt]:
    made = RandomTexts(context)
    if context.spec.tokenize:
        prefixes = Prefixes(context)
        writer, texts = context.writer, made.texts

        def of_ids(number: int) -> LoadPrompt:
            tokens = made.length(number)
            prefix = prefixes.of(number)
            lead = writer.encode(prefix) if prefix else ()
            ids = (*lead, *writer.ids(texts, number, max(1, tokens - len(lead))))[:tokens]
            return LoadPrompt(token_ids=ids, tokens=len(ids))

        return of_ids

    def of_text(number: int) -> LoadPrompt:
        tokens = made.length(number)
        return LoadPrompt(text=made.text(number, tokens), tokens=tokens)

    return of_text


def _fixed(context: Context) -> Callable[[int], LoadPrompt]:
    context.distinct, context.recorded = 1, True
    context.note("Every request has the same prompt, so a server that caches prefixes computes it once.")
    prompt = LoadPrompt(text=context.spec.prompt)
    return lambda _: prompt


def _conversations(context: Context) -> Callable[[int], LoadPrompt]:
    """Turn one is a prompt of the drawn length; each later turn adds a message that takes as many new tokens."""
    made, writer, turns = RandomTexts(context), context.writer, context.spec.turns
    low, high = (max(1, turns.low), max(1, turns.low, turns.high)) if turns is not None else (2, 2)
    later, around = draws.Draws(context.seed, "turn"), writer.around_later
    chosen = draws.Draws(context.seed, "turns")

    def conversation(number: int) -> LoadPrompt:
        count = low + int(chosen.uniforms(number)[draws.TURNS] * (high - low + 1))
        sizes = [made.length(number * _MOST_TURNS)]
        texts = [made.text(number, sizes[0])]
        for turn in range(1, min(count, _MOST_TURNS)):
            place = number * _MOST_TURNS + turn
            size = max(around + 1, made.length(place))
            sizes.append(size)
            texts.append(writer.part(later, place, size - around))
        return LoadPrompt(turns=tuple(texts), turn_tokens=tuple(sizes))

    return conversation


def _speeds(sizes: tuple[int, ...]) -> Callable[[Context], Callable[[int], LoadPrompt]]:
    def make(context: Context) -> Callable[[int], LoadPrompt]:
        writer, texts = context.writer, draws.Draws(context.seed, "text")

        def prompt(number: int) -> LoadPrompt:
            asked = sizes[number // _REPEATS % len(sizes)]
            tokens = max(asked, writer.least)
            if tokens != asked:
                context.note(f"A prompt of {asked} token is {tokens} long here: the chat template is part of it.")
            return LoadPrompt(text=writer.prompt(texts, number, tokens), tokens=tokens)

        return prompt

    return make


def _embedding(context: Context) -> Callable[[int], LoadPrompt]:
    made, count = RandomTexts(context), max(1, context.spec.documents)

    def prompt(number: int) -> LoadPrompt:
        places = range(number * count, (number + 1) * count)
        sizes = [made.length(place) for place in places]
        texts = tuple([made.text(place, size) for place, size in zip(places, sizes, strict=True)])
        return LoadPrompt(texts=texts, tokens=sum(sizes))

    return prompt


def _rerank(context: Context) -> Callable[[int], LoadPrompt]:
    """Documents have the drawn length; a query has `args.query_tokens`. A pair costs both and what is around them."""
    asked = context.spec.input_tokens or Lengths("fixed", 128, 128)
    lengths.check(asked, "prompts.input_tokens")
    draw, writer = lengths.sampler(asked), context.writer
    count = context.spec.documents or context.number("documents", 10, 1)
    query_tokens = context.number("query_tokens", 16, 1)
    sizes, queries = draws.Draws(context.seed, "input length"), draws.Draws(context.seed, "query")
    documents = draws.Draws(context.seed, "text")

    def prompt(number: int) -> LoadPrompt:
        places = range(number * count, (number + 1) * count)
        drawn = [max(1, draw(sizes.uniforms(place)[draws.INPUT])) for place in places]
        texts = tuple([writer.part(documents, place, size) for place, size in zip(places, drawn, strict=True)])
        tokens = sum(drawn) + count * (query_tokens + writer.around_pair)
        return LoadPrompt(query=writer.part(queries, number, query_tokens), texts=texts, tokens=tokens)

    return prompt


FIXED = Dataset("prompt", "One fixed prompt (`prompts.prompt`) for every request.", make=_fixed)
DATASETS = (
    Dataset("random", "Random words; every prompt is different and has exactly the asked length.", make=_random),
    Dataset(
        "random_multi_turn",
        "Conversations of random words; every turn adds the asked length.",
        make=_conversations,
        conversations=True,
    ),
    Dataset("speed_benchmark", "Prompts of 1, 6144, 14336 and 30720 tokens, two of each.", make=_speeds(_SPEEDS)),
    Dataset("speed_benchmark_long", "Prompts of 63488 and 129024 tokens, two of each.", make=_speeds(_LONG_SPEEDS)),
    Dataset("random_embedding", "Random texts to embed.", make=_embedding, apis=("embeddings",)),
    Dataset("random_rerank", "A random query and random documents.", make=_rerank, apis=("rerank",)),
)
