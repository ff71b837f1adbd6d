"""Benchmarks and previews of the public API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from evalmesh.benchmarks.base import Benchmark
from evalmesh.domain.content import ToolDefinition
from evalmesh.domain.estimate import BenchmarkEstimate
from evalmesh.domain.request import GenerationConfig, Message
from evalmesh.domain.shard_data import PlannedSample
from evalmesh.v1 import benchmarks_pb2 as pb
from evalmesh.wire.names import make_name, parse_name
from evalmesh.wire.runs.content import (
    message_from_proto,
    message_to_proto,
    reference_from_json,
    reference_to_json,
    tools_from_proto,
    tools_to_proto,
)
from evalmesh.wire.runs.models import generation_from_proto, generation_to_proto


@dataclass(frozen=True, slots=True)
class BenchmarkInfo:
    """What a client can know about a benchmark: its data, without its behaviour."""

    name: str
    version: int
    title: str
    description: str
    shape: str
    subsets: tuple[str, ...]
    split: str
    few_shot_num: int
    metrics: tuple[str, ...]
    """The first is the primary one."""
    huggingface_id: str
    modelscope_id: str
    license: str
    tags: tuple[str, ...]
    packaged: bool
    """Whether the data comes with evalmesh."""
    prompt_template: str
    generation: GenerationConfig
    huggingface_revision: str = ""
    """Commit; empty: the main branch."""
    modelscope_revision: str = ""


@dataclass(frozen=True, slots=True)
class PreviewedSample:
    """One sample as a run would ask it."""

    sample_id: str
    target: tuple[str, ...]
    messages: tuple[Message, ...]
    prompt: str
    """Completion kinds only."""
    kind: str = "chat"
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = ""
    continuations: tuple[str, ...] = ()
    """Log-likelihood only."""
    contexts: tuple[str, ...] = ()
    """What stands between the prompt and the continuation of the same place."""
    followups: tuple[str, ...] = ()
    """What the user says next, each once the model has answered."""
    reference: Any = None
    """What is scored against where a text is not enough, as a JSON value."""
    group: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview(Sequence[PreviewedSample]):
    """The first samples of a benchmark, and what stood between them."""

    samples: tuple[PreviewedSample, ...]
    malformed_rows: tuple[str, ...] = ()
    """Rows that cannot become samples, among those looked at, each with its place and the reason."""
    notes: tuple[str, ...] = ()
    """What was guessed of the files."""

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, place: int) -> PreviewedSample: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[PreviewedSample, ...]: ...
    def __getitem__(self, place: int | slice) -> PreviewedSample | tuple[PreviewedSample, ...]:
        return self.samples[place]


def benchmark_info(benchmark: Benchmark) -> BenchmarkInfo:
    """What there is to tell about a benchmark of the registry."""
    return BenchmarkInfo(
        name=benchmark.name,
        version=benchmark.version,
        title=benchmark.title,
        description=benchmark.description,
        shape=benchmark.shape.name,
        subsets=benchmark.subsets,
        split=benchmark.split,
        few_shot_num=benchmark.few_shot_num,
        metrics=tuple(metric.name for metric in benchmark.metrics),
        huggingface_id=benchmark.dataset.huggingface,
        modelscope_id=benchmark.dataset.modelscope,
        license=benchmark.dataset.license,
        tags=benchmark.tags,
        packaged=bool(benchmark.dataset.packaged),
        prompt_template=benchmark.template or benchmark.shape.template,
        generation=benchmark.generation,
        huggingface_revision=benchmark.dataset.revision,
        modelscope_revision=benchmark.dataset.modelscope_revision,
    )


def benchmark_to_proto(info: BenchmarkInfo) -> pb.Benchmark:
    """Under its resource name."""
    return pb.Benchmark(
        name=make_name("benchmarks", info.name),
        version=info.version,
        title=info.title,
        description=info.description,
        shape=info.shape,
        subsets=info.subsets,
        split=info.split,
        few_shot_num=info.few_shot_num,
        metrics=info.metrics,
        huggingface_id=info.huggingface_id,
        modelscope_id=info.modelscope_id,
        license=info.license,
        tags=info.tags,
        packaged=info.packaged,
        prompt_template=info.prompt_template,
        generation=generation_to_proto(info.generation),
        huggingface_revision=info.huggingface_revision,
        modelscope_revision=info.modelscope_revision,
    )


def benchmark_from_proto(proto: pb.Benchmark) -> BenchmarkInfo:
    """Under its plain name."""
    return BenchmarkInfo(
        name=parse_name("benchmarks", proto.name),
        version=proto.version,
        title=proto.title,
        description=proto.description,
        shape=proto.shape,
        subsets=tuple(proto.subsets),
        split=proto.split,
        few_shot_num=proto.few_shot_num,
        metrics=tuple(proto.metrics),
        huggingface_id=proto.huggingface_id,
        modelscope_id=proto.modelscope_id,
        license=proto.license,
        tags=tuple(proto.tags),
        packaged=proto.packaged,
        prompt_template=proto.prompt_template,
        generation=generation_from_proto(proto.generation),
        huggingface_revision=proto.huggingface_revision,
        modelscope_revision=proto.modelscope_revision,
    )


def preview_of(planned: PlannedSample) -> PreviewedSample:
    """The sample and the very prompt a run would send."""
    return PreviewedSample(
        sample_id=planned.sample.id,
        target=planned.sample.target,
        messages=planned.messages,
        prompt=planned.prompt,
        kind=planned.kind,
        tools=planned.tools,
        tool_choice=planned.tool_choice,
        continuations=planned.continuations,
        contexts=planned.contexts,
        followups=planned.followups,
        reference=planned.sample.reference,
        group=planned.sample.group,
        tags=planned.sample.tags,
    )


def preview_to_proto(preview: PreviewedSample) -> pb.PreviewedSample:
    """The sample and its prompt."""
    return pb.PreviewedSample(
        sample_id=preview.sample_id,
        target=preview.target,
        messages=[message_to_proto(m) for m in preview.messages],
        prompt=preview.prompt,
        kind=preview.kind,
        tools=tools_to_proto(preview.tools),
        tool_choice=preview.tool_choice,
        continuations=preview.continuations,
        contexts=preview.contexts,
        followups=preview.followups,
        reference_json=reference_to_json(preview.reference),
        group=preview.group,
        tags=preview.tags,
    )


def preview_from_proto(proto: pb.PreviewedSample) -> PreviewedSample:
    """The sample and its prompt."""
    return PreviewedSample(
        sample_id=proto.sample_id,
        target=tuple(proto.target),
        messages=tuple(message_from_proto(m) for m in proto.messages),
        prompt=proto.prompt,
        kind=proto.kind or "chat",
        tools=tools_from_proto(proto.tools),
        tool_choice=proto.tool_choice,
        continuations=tuple(proto.continuations),
        contexts=tuple(proto.contexts),
        followups=tuple(proto.followups),
        reference=reference_from_json(proto.reference_json, "reference_json"),
        group=proto.group,
        tags=tuple(proto.tags),
    )


def estimate_to_proto(one: BenchmarkEstimate) -> pb.BenchmarkEstimate:
    """Every field."""
    return pb.BenchmarkEstimate(
        benchmark=one.benchmark,
        sample_count=one.n_samples,
        malformed_count=one.n_malformed,
        request_count=one.n_requests,
        prompt_characters=one.prompt_chars,
        longest_prompt_characters=one.longest_chars,
        max_tokens=one.max_tokens,
    )


def estimate_from_proto(proto: pb.BenchmarkEstimate) -> BenchmarkEstimate:
    """Every field."""
    return BenchmarkEstimate(
        benchmark=proto.benchmark,
        n_samples=proto.sample_count,
        n_malformed=proto.malformed_count,
        n_requests=proto.request_count,
        prompt_chars=proto.prompt_characters,
        longest_chars=proto.longest_prompt_characters,
        max_tokens=proto.max_tokens if proto.HasField("max_tokens") else None,
    )
