"""`evalmesh benchmarks list|info|preview`: from the installed registry, or from a platform."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from evalmesh.benchmarks import registry
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.datasets.bringing import opened_here
from evalmesh.cli.eval.config import TaskConfig, args_of_one
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.show import make_console
from evalmesh.cli.eval.spec import benchmark_spec, path_for, sets_of
from evalmesh.cli.plain import plain
from evalmesh.cli.platform.session import run_async
from evalmesh.cli.tables import Column, Grid
from evalmesh.domain.content import describe
from evalmesh.domain.natural_order import natural
from evalmesh.domain.request import Message
from evalmesh.domain.run import ModelSpec, RunSpec
from evalmesh.results.dataset import preview_rows
from evalmesh.sdk import Client
from evalmesh.wire.runs.benchmarks import BenchmarkInfo, Preview, PreviewedSample, benchmark_info


def run(args: argparse.Namespace) -> int:
    """One of the three actions."""
    if args.action == "preview":
        return _show_preview(_preview(args), args.format)
    infos = _infos(args)
    if args.format == "json":
        print(json.dumps([dataclasses.asdict(info) for info in infos], indent=2, ensure_ascii=False))
    elif args.action == "list":
        _table(infos).print_to(make_console())
    else:
        for info in infos:
            _show(info)
    return exits.OK


def _infos(args: argparse.Namespace) -> Sequence[BenchmarkInfo]:
    names = args.names if args.action in {"info", "show"} else None
    if args.server:
        check_server(args.server)
        with Client(args.server) as client:
            return list(client.list_benchmarks()) if names is None else [client.get_benchmark(name) for name in names]
    known = registry.all_benchmarks() if names is None else [registry.get(name) for name in names]
    return [benchmark_info(one) for one in known]


def _table(infos: Sequence[BenchmarkInfo]) -> Grid:
    names = ("Measures", "Data", "Metrics", "Shape", "Subsets", "Few-shot")
    grid = Grid([Column("Name"), *(Column(name, spare=place) for place, name in enumerate(names, start=1))])
    for info in infos:
        data = "ships with evalmesh" if info.packaged else (info.modelscope_id or info.huggingface_id or "your own")
        subsets = str(len(info.subsets)) if len(info.subsets) > 1 else ""
        grid.add(info.name, info.title, data, ", ".join(info.metrics), info.shape, subsets, str(info.few_shot_num))
    return grid


def _show(info: BenchmarkInfo) -> None:
    print(f"{info.name} (version {info.version}): {info.title}\n{info.description}\n")
    rows = {
        "shape": info.shape,
        "metrics": ", ".join(info.metrics),
        "split": info.split,
        "subsets": ", ".join(sorted(info.subsets, key=natural)),
        "few-shot": str(info.few_shot_num),
        "modelscope": _at(info.modelscope_id, info.modelscope_revision),
        "huggingface": _at(info.huggingface_id, info.huggingface_revision),
        "data": "ships with evalmesh" if info.packaged else "",
        "licence": info.license,
        "tags": ", ".join(info.tags),
        "generation": json.dumps(plain(info.generation)) if plain(info.generation) else "",
    }
    for name, value in rows.items():
        if value:
            print(f"{name:12} {value}")
    print(f"\nprompt template:\n{info.prompt_template}\n")


def _at(id_: str, revision: str) -> str:
    return f"{id_} at {revision}" if id_ and revision else id_


def _preview(args: argparse.Namespace) -> Preview:
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
        dataset = run_async(opened_here(benchmark, spec, task))
        return preview_rows(dataset, args.samples)


def _show_preview(found: Preview, form: str) -> int:
    """The samples; on standard error what is no sample."""
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
    for continuation in one.continuations:
        print(f"--- continuation\n{continuation}")
    for tool in one.tools:
        print(f"--- tool {tool.name}\n{tool.description}\n{json.dumps(tool.parameters, ensure_ascii=False)}")
    print()


def _lines_of(message: Message) -> list[str]:
    calls = [f"[calls {call.name} with {call.arguments}]" for call in message.tool_calls]
    said = [describe(message.content)] if message.content or not calls else []
    return said + calls
