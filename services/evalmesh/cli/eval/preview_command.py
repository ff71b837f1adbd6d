"""`evalmesh benchmarks preview`: samples as they are asked."""

import argparse
import dataclasses
import json
import sys
from itertools import zip_longest

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.datasets.bringing import opened_here
from evalmesh.cli.eval.config import TaskConfig, args_of_one
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.sets import benchmark_spec, path_for, sets_of
from evalmesh.cli.platform.session import run_async
from evalmesh.domain.content import describe
from evalmesh.domain.request import Message
from evalmesh.domain.run import ModelSpec, RunSpec
from evalmesh.results.dataset import preview_rows
from evalmesh.sdk import Client
from evalmesh.wire.runs.benchmarks import Preview, PreviewedSample


def _found(args: argparse.Namespace) -> Preview:
    own = args_of_one(args.name, args.dataset_args or "")
    config = TaskConfig(
        datasets=[args.name], dataset_args=own, dataset_dir=args.dataset_dir, server=args.server, seed=args.seed
    )
    (one,) = sets_of(config)
    spec = benchmark_spec(one, config)
    folder = path_for(config.dataset_dir, config)
    with told_in_keys([one.name]):
        if args.server:
            check_server(args.server)
            with Client(args.server) as client:
                return client.preview_benchmark(
                    spec,
                    sample_count=args.samples,
                    dataset_dir=folder,
                    dataset_hub=args.dataset_hub,
                    seed=args.seed,
                )
        benchmark = registry.get(spec.kind)
        validate_spec(benchmark, spec)
        task = RunSpec(
            ModelSpec(name="preview"), (spec,), seed=args.seed, dataset_dir=folder, dataset_hub=args.dataset_hub
        )
        return preview_rows(run_async(opened_here(benchmark, spec, task)), args.samples)


def preview(args: argparse.Namespace) -> int:
    """Prints the samples; on standard error what is no sample."""
    found, form = _found(args), args.format
    if form == "json":
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        for one in found:
            _show_sample(one)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if found.malformed_rows:
        count = len(found.malformed_rows)
        print(f"{count} of {count + len(found)} rows cannot be used:", file=sys.stderr)
        for row in found.malformed_rows:
            print(f"  {row}", file=sys.stderr)
    if found:
        return exits.OK
    print("there is no row to show", file=sys.stderr)
    return exits.BAD_INPUT


def _show_sample(one: PreviewedSample) -> None:
    print(f"=== {one.sample_id}   expected: {' | '.join(one.target) or '(no reference)'}")
    for name, value in (("group", one.group), ("tags", ", ".join(one.tags)), ("reference", one.reference)):
        if value:
            print(f"--- {name}\n{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    for message in one.messages:
        print("\n".join([f"--- {message.role}", *_lines_of(message)]))
    if one.prompt:
        print(f"--- prompt\n{one.prompt}")
    for said in one.followups:
        print(f"--- user, after the answer\n{said}")
    for context, continuation in zip_longest(one.contexts, one.continuations):
        if context:
            print(f"--- context\n{context}")
        print(f"--- continuation\n{continuation}")
    for tool in one.tools:
        print(f"--- tool {tool.name}\n{tool.description}\n{json.dumps(tool.parameters, ensure_ascii=False)}")
    print()


def _lines_of(message: Message) -> list[str]:
    calls = [f"[calls {call.name} with {call.arguments}]" for call in message.tool_calls]
    said = [describe(message.content)] if message.content or not calls else []
    return said + calls
