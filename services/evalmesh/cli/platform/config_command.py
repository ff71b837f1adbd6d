"""`evalmesh config show`: every option of a command, and where its value comes from."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from evalmesh.cli import exits
from evalmesh.cli.config import Config
from evalmesh.cli.console import make_console
from evalmesh.cli.defaults import home_file, layers, project_file
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.options import read_config_file
from evalmesh.cli.perf.config import PerfConfig

_CONFIGS: dict[str, type[Config]] = {"eval": TaskConfig, "perf": PerfConfig}


def run(args: argparse.Namespace) -> int:
    """Shows what a command would take without any flag of its own."""
    rows = list(_rows(_CONFIGS[args.of], args.config, everything=args.all))
    if args.format == "json":
        print(json.dumps([dict(zip(("key", "value", "origin"), row, strict=True)) for row in rows], indent=2))
        return exits.OK
    table = Table("Key", "Value", "From", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(value if isinstance(value, str) else json.dumps(value)) for value in row))
    console = make_console()
    console.print(table)
    if not rows:
        console.print("Every option has its default; --all shows them.")
    for what, path in (("project", project_file() or "evalmesh.yaml, not found"), ("home", home_file())):
        console.print(Text(f"{what:<9}{path}"))
    return exits.OK


def _rows(kind: type[Config], file: str | None, *, everything: bool) -> Iterator[tuple[str, Any, str]]:
    config = kind.load(file, {})
    said = {name: str(layer.path) for layer in layers(kind.section, kind.model_fields) for name in layer.values}
    if file:
        said = dict.fromkeys(read_config_file(file), file)
    values = config.model_dump(mode="json")
    for name in kind.model_fields:
        if name in values and (name in said or everything or name in config.model_fields_set):
            yield (
                name,
                values[name],
                said.get(name) or ("environment" if name in config.model_fields_set else "default"),
            )
