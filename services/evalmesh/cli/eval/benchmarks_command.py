"""`evalmesh benchmarks list|info|preview`: from the installed registry, or from a platform."""

import argparse
import dataclasses
import json
from collections.abc import Sequence

from evalmesh.benchmarks import registry
from evalmesh.cli import exits
from evalmesh.cli.addresses import check_server
from evalmesh.cli.console import make_console
from evalmesh.cli.plain import plain
from evalmesh.cli.tables import Column, Grid
from evalmesh.domain.natural_order import natural
from evalmesh.wire.runs.benchmarks import BenchmarkInfo, benchmark_info


def run(args: argparse.Namespace) -> int:
    """One of the three actions."""
    if args.action == "preview":
        from evalmesh.cli.eval.preview_command import preview  # noqa: PLC0415  # a list reads no data

        return preview(args)
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
        from evalmesh.sdk import Client  # noqa: PLC0415  # what is installed needs no gRPC

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
