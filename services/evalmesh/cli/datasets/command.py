"""`evalmesh datasets fetch|files|list`: data sets of hubs, before a run wants them."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evalmesh.adapters.hubs.cache import kept_in
from evalmesh.adapters.hubs.routes import file_path
from evalmesh.adapters.hubs.settings import HubSettings, hub_settings
from evalmesh.benchmarks import registry
from evalmesh.benchmarks.base import Benchmark
from evalmesh.benchmarks.query import candidates, published_files
from evalmesh.benchmarks.spec import validate_spec
from evalmesh.cli import exits
from evalmesh.cli.amounts import bytes_text
from evalmesh.cli.datasets.bringing import opened_here
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.keys import told_in_keys
from evalmesh.cli.eval.sets import benchmark_spec, sets_of
from evalmesh.cli.eval.show import make_console
from evalmesh.cli.options import parse_options
from evalmesh.cli.platform.session import run_async
from evalmesh.cli.tables import Column, Grid
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.hub import BRANCHES
from evalmesh.domain.run import BenchmarkSpec, ModelSpec, RunSpec
from evalmesh.results.dataset import RunDataset


def run(args: argparse.Namespace) -> int:
    """One of the three actions."""
    return {"fetch": _fetch, "files": _files, "list": _list}[args.action](args)


def _wanted(args: argparse.Namespace) -> Iterator[tuple[Benchmark, BenchmarkSpec, RunSpec]]:
    config = TaskConfig(
        datasets=args.names,
        dataset_args=parse_options(args.dataset_args, "dataset_args") if args.dataset_args else {},
        dataset_hub=args.dataset_hub,
        subset=args.subset,
        num_fewshot=args.num_fewshot,
    )
    sets = sets_of(config)
    with told_in_keys([one.name for one in sets]):
        for one in sets:
            spec = benchmark_spec(one, config)
            benchmark = registry.get(spec.kind)
            validate_spec(benchmark, spec)
            yield benchmark, spec, RunSpec(ModelSpec(name="fetch"), (spec,), dataset_hub=config.dataset_hub)


def _fetch(args: argparse.Namespace) -> int:
    told = []
    for benchmark, spec, task in list(_wanted(args)):
        if not candidates(benchmark, spec, task.dataset_hub):
            print(f"{spec.name}: nothing to fetch, its data is on this machine", file=sys.stderr)
            continue
        dataset = run_async(opened_here(benchmark, spec, task))
        folder = _copied(dataset, Path(args.to).expanduser() / benchmark.name) if args.to else None
        told.append(_document(dataset, folder))
    if args.format == "json":
        print(json.dumps(told, indent=2))
        return exits.OK
    for one in told:
        commit = one["commit"] if one["revision"] == one["commit"] else f"{one['revision']} = {one['commit']}"
        print(f"{one['name']}: {one['id']} ({one['hub']}) at {commit}, {one['n_files']} files, {one['size']}")
        print(f"  {one['folder']}")
    if args.to and told:
        print(f"take that folder along and run with --dataset-dir {args.to}")
    return exits.OK


def _document(dataset: RunDataset, folder: Path | None) -> dict[str, Any]:
    origin, files = dataset.origin, dataset.files
    size_bytes = sum(path.stat().st_size for path in files)
    return {
        "name": dataset.spec.name,
        "hub": origin.hub if origin else "local",
        "id": origin.id if origin else "",
        "revision": origin.revision if origin else "",
        "commit": origin.commit if origin else "",
        "n_files": len(files),
        "size_bytes": size_bytes,
        "size": bytes_text(size_bytes),
        "folder": str(folder or (os.path.commonpath(files) if files else "")),
    }


def _copied(dataset: RunDataset, folder: Path) -> Path:
    """The files under the paths that they have on the hub."""
    for name, path in dataset.named_files:
        target = folder / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        except OSError as error:
            raise InvalidInput(
                f"to: '{target}' cannot be written ({(error.strerror or str(error)).lower()}); choose another folder.",
                {"field": "to"},
            ) from error
    return folder


def _files(args: argparse.Namespace) -> int:
    settings = hub_settings()
    rows = [row for benchmark, spec, task in _wanted(args) for row in _files_of(settings, benchmark, spec, task)]
    if args.format == "json":
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            print(f"{row['url']}\n  -> {row['place']}")
        print("DIR is what --dataset-dir names.", file=sys.stderr)
    return exits.OK


def _files_of(settings: HubSettings, benchmark: Benchmark, spec: BenchmarkSpec, task: RunSpec) -> list[dict[str, str]]:
    """From what the benchmark says of itself where it does, so that it is known without a network."""
    published = candidates(benchmark, spec, task.dataset_hub)
    if not published:
        return []
    repo, revision = published[0]
    names: Sequence[str] = published_files(benchmark, spec)
    if not names:
        dataset = run_async(opened_here(benchmark, spec, task))
        names = [name for name, _ in dataset.named_files]
    endpoint = settings.hubs[repo.hub].endpoint
    return [
        {
            "benchmark": spec.name,
            "url": endpoint + file_path(repo, revision or BRANCHES[repo.hub], name),
            "place": f"DIR/{benchmark.name}/{name}",
        }
        for name in names
    ]


def _list(args: argparse.Namespace) -> int:
    settings = hub_settings()
    rows = [row for folder in (settings.cache_dir, *settings.other_caches) for row in kept_in(folder)]
    if args.format == "json":
        print(json.dumps([{**row, "folder": str(row["folder"])} for row in rows], indent=2))
        return exits.OK
    if not rows:
        print(f"nothing is kept of any hub, in {settings.cache_dir} or {settings.other_caches[0]}", file=sys.stderr)
    grid = Grid([Column("Repository"), Column("Kind"), Column("Commit"), Column("Files"), Column("Size")])
    for row in rows:
        grid.add(row["id"], row["kind"], row["commit"][:12], str(row["n_files"]), bytes_text(row["size_bytes"]))
    if rows:
        grid.print_to(make_console())
    return exits.OK
