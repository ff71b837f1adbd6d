"""`evalmesh perf ...` and `evalmesh perf preview ...`: what takes the config of a load test."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import yaml

from evalmesh.cli import exits
from evalmesh.cli.console import is_live, make_console
from evalmesh.cli.perf.config import PerfConfig
from evalmesh.cli.perf.run import preview, run_load_test, validate
from evalmesh.cli.perf.show import show_outcome
from evalmesh.cli.plain import plain
from evalmesh.cli.platform.session import run_async


def _run(args: argparse.Namespace) -> int:
    config: PerfConfig = args.config
    if config.dry_run:
        spec = run_async(validate(config, make_console(stderr=True)))
        print(yaml.safe_dump(plain(replace(spec, client_config="")), sort_keys=False, allow_unicode=True), end="")
        return exits.OK
    outcome = run_async(run_load_test(config, make_console(stderr=True), live=is_live()))
    show_outcome(make_console(), outcome)
    return outcome.exit_code(ignore_errors=config.ignore_errors, strict=config.strict)


def _preview(args: argparse.Namespace) -> int:
    config: PerfConfig = args.config
    for one in run_async(preview(config, args.count, make_console(stderr=True))):
        length = f"  # {one.prepared_tokens} tokens" if one.prepared_tokens else ""
        print(json.dumps(json.loads(one.body), ensure_ascii=False, indent=2) + length)
    return exits.OK


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {"run": _run, "preview": _preview}
