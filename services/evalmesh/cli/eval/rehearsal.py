"""`evalmesh eval --dry-run`: everything but the asking, and what the asking would come to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.costs import CHARS_PER_TOKEN, money, tokens_of
from evalmesh.cli.eval.evaluate import earlier_of, place_of, resolve, simulated, with_completions
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.reuse import with_earlier
from evalmesh.cli.eval.sets import sets_of
from evalmesh.cli.eval.timing import time_lines
from evalmesh.cli.plain import plain
from evalmesh.cli.platform.session import connect
from evalmesh.domain.content import describe
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.run import RunSpec
from evalmesh.wire.runs.benchmarks import PreviewedSample

_MOST_LINES = 12
_MOST_CHARS = 100


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a run would be."""

    spec: RunSpec
    estimates: tuple[BenchmarkEstimate, ...] = ()
    first: PreviewedSample | None = None
    """Sample of the first benchmark, with its prompt."""


async def rehearse(config: TaskConfig, *, counted: bool = True) -> Rehearsal:
    """Checks spec, data and endpoint as a run does, and counts what it would ask. Raises what is wrong.

    Args:
        config: As for a run.
        counted: Read all rows; otherwise as many as it takes to find one that can be used.
    """
    with told_in_keys([one.name for one in sets_of(config)]):
        async with simulated(config) as task:
            ready, spec = resolve(task)
            async with connect(place_of(ready)) as client:
                spec = await with_completions(client, ready, spec)
                if (earlier := await earlier_of(client, task, ready)) is not None:
                    spec = await with_earlier(client, spec, earlier)
                await client.create_run(spec, validate_only=True)
                if not counted:
                    return Rehearsal(spec)
                estimates = await client.estimate_run(spec)
                first = await client.preview_benchmark(
                    spec.benchmarks[0], dataset_dir=spec.dataset_dir, dataset_hub=spec.dataset_hub, seed=spec.seed
                )
    return Rehearsal(spec, tuple(estimates), next(iter(first), None))


def text_of(found: Rehearsal, prices: Sequence[float], work_dir: Path) -> str:
    """The spec as YAML, and what it comes to as comments below it."""
    spec = plain(replace(found.spec, client_config=""))
    lines = [*_counts(found.estimates, found.spec.repeats), *time_lines(found.spec, found.estimates, work_dir)]
    lines += [*_costs(found.estimates, prices), *_prompt(found)]
    comments = "".join(f"# {line}\n" if line else "#\n" for line in lines)
    return f"{yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)}{comments}"


def _counts(estimates: Sequence[BenchmarkEstimate], repeats: int) -> Iterator[str]:
    yield f"What it would ask (tokens of prompts at {CHARS_PER_TOKEN} characters each; nothing was asked but a probe):"
    for one in estimates:
        times = f" x {repeats}" if repeats > 1 else ""
        bad = f" and {one.n_malformed:,} rows that cannot be used" if one.n_malformed else ""
        answers = "as many as the endpoint allows" if one.max_tokens is None else f"at most {one.max_tokens:,} each"
        yield (
            f"  {one.benchmark}: {one.n_samples:,} samples{times}{bad}, about {tokens_of(one.prompt_chars):,} input "
            f"tokens (longest prompt {tokens_of(one.longest_chars):,}), output tokens {answers}"
        )
    if len(estimates) > 1:
        asked, chars = (sum(getattr(one, name) for one in estimates) for name in ("n_requests", "prompt_chars"))
        yield f"  together: {asked:,} requests, about {tokens_of(chars):,} input tokens"


def _costs(estimates: Sequence[BenchmarkEstimate], prices: Sequence[float]) -> Iterator[str]:
    if not prices:
        return
    prompts = money(tokens_of(sum(one.prompt_chars for one in estimates)), 0, prices)
    yield f"  price: about {prompts:,.2f} for prompts" + (
        ""
        if any(one.max_tokens is None for one in estimates)
        else f", at most {money(0, sum(one.n_requests * (one.max_tokens or 0) for one in estimates), prices):,.2f} "
        "for answers"
    )


def _prompt(found: Rehearsal) -> Iterator[str]:
    if found.first is None:
        return
    yield ""
    yield f"The first prompt, of {found.spec.benchmarks[0].name} {found.first.sample_id}:"
    for message in found.first.messages:
        yield f"  {message.role}:"
        yield from _short(describe(message.content))
    yield from _short(found.first.prompt)


def _short(text: str) -> Iterator[str]:
    lines = text.splitlines()
    for line in lines[:_MOST_LINES]:
        yield f"    {line[:_MOST_CHARS]}{' [...]' if len(line) > _MOST_CHARS else ''}".rstrip()
    if len(lines) > _MOST_LINES:
        yield f"    [{len(lines) - _MOST_LINES} more lines]"
