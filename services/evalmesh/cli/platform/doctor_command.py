"""`evalmesh doctor`: what a command will find here, tried one by one."""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from urllib.request import getproxies

from rich.text import Text

from evalmesh.adapters.nats.server import find_nats_server
from evalmesh.cli import exits
from evalmesh.cli.console import make_console
from evalmesh.cli.defaults import home_file, project_file
from evalmesh.cli.eval.config import TaskConfig
from evalmesh.cli.eval.evaluate import evaluate
from evalmesh.cli.eval.rehearsal import rehearse
from evalmesh.cli.platform.session import check_writable, run_async
from evalmesh.domain.errors import EvalmeshError
from evalmesh.local.settings import LocalSettings
from evalmesh.runtime.hosts import living_hosts

_EXTRAS = {"s3": "minio", "perf": "tokenizers", "wandb": "wandb", "mlflow": "mlflow", "clearml": "clearml"}
_EXTRAS |= {"transformers": "transformers", "vllm": "vllm", "otlp": "opentelemetry.sdk", "nvml": "pynvml"}
_OF_ENDPOINTS = ("model", "api_url", "api_key", "headers", "ca_file", "insecure", "request_kind")
_FEW_DESCRIPTORS = 4096
_LITTLE_BYTES = 1 << 30
_STYLES = {"ok": "green", "note": "yellow", "bad": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look has found."""

    about: str
    state: str
    """`ok`; `note`: works, and somebody should know; `bad`: commands will fail."""
    text: str


def run(args: argparse.Namespace) -> int:
    """Tells each finding as it is made; exits with 1 if one is bad."""
    console, found = make_console(), list[Finding]()
    for finding in _look(args):
        found.append(finding)
        if args.format != "json":
            console.print(
                Text.assemble((f"{finding.state:<5}", _STYLES[finding.state]), f"{finding.about:<14}"), end=""
            )
            console.print(Text(finding.text))
    if args.format == "json":
        print(json.dumps([asdict(one) for one in found], indent=2))
    return exits.FAILED if any(one.state == "bad" for one in found) else exits.OK


def _look(args: argparse.Namespace) -> Iterator[Finding]:
    yield Finding(
        "evalmesh", "ok", f"{version('evalmesh')} on Python {platform.python_version()}, {platform.platform()}"
    )
    extras = [name for name, module in _EXTRAS.items() if _installed(module)]
    yield Finding("extras", "ok", f"{', '.join(extras) or 'none'} of {', '.join(_EXTRAS)}")
    yield _tried("nats-server", _nats)
    yield _machine()
    yield _descriptors()
    yield _tried("work_dir", lambda: _work_dir(Path(args.work_dir).expanduser()))
    yield from _environment()
    yield _tried("a small run", _small_run)
    if args.api_url or args.model:
        yield _tried("endpoint", lambda: _endpoint(args))


def _tried(about: str, look: Callable[[], Finding]) -> Finding:
    try:
        return look()
    except (EvalmeshError, OSError) as error:
        return Finding(about, "bad", getattr(error, "message", str(error)))


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ModuleNotFoundError, PackageNotFoundError):
        return False


def _nats() -> Finding:
    path = find_nats_server()
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    return Finding("nats-server", "ok", f"{told.stdout.strip().removeprefix('nats-server: ')} at {path}")


def _machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Finding("machine", "ok", f"{cores} cores, {memory / 2**30:.1f} GiB of memory")


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FEW_DESCRIPTORS or hard >= _FEW_DESCRIPTORS:
        return Finding("descriptors", "ok", f"{soft:,}, at most {hard:,}")
    way_out = "each request in flight needs one; raise it with ulimit -n, or keep --eval-batch-size below it"
    return Finding("descriptors", "note", f"{soft:,}, at most {hard:,}: {way_out}")


def _work_dir(folder: Path) -> Finding:
    settings = LocalSettings(work_dir=folder)
    there = sorted(one.address for one in living_hosts(settings.hosts_dir).values() if one.address)
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(existing).free
    if folder.exists():
        check_writable(folder, folder)
    elif not os.access(existing, os.W_OK):
        return Finding("work_dir", "bad", f"{folder} does not exist and cannot be made in {existing}")
    state = "ok" if free > _LITTLE_BYTES else "note"
    running = f"; a platform is running there at {', '.join(there)}" if there else ""
    return Finding("work_dir", state, f"{folder}, {free / 2**30:.1f} GiB free{running}")


def _environment() -> Iterator[Finding]:
    """Names alone: values may be keys, and addresses of proxies may hold passwords."""
    names = sorted(name for name in os.environ if name.startswith(("EVALMESH_", "OPENAI_")))
    yield Finding("variables", "ok", ", ".join(names) or "none of EVALMESH_* and OPENAI_*")
    proxies = getproxies()
    hosts = [f"{kind} by {address.rpartition('@')[2]}" for kind, address in sorted(proxies.items()) if kind != "no"]
    if hosts:
        yield Finding("proxies", "note", f"{', '.join(hosts)}; not for {proxies.get('no') or 'no host at all'}")
    files = [str(path) for path in (project_file(), home_file()) if path is not None and path.is_file()]
    yield Finding("options", "ok", f"{', '.join(files) or 'no file of options'}; see evalmesh config show")


def _small_run() -> Finding:
    """All services, a real server of queues, a simulated model: a sample per subset, in a folder that is removed."""
    with tempfile.TemporaryDirectory(prefix="evalmesh-doctor-") as folder:
        config = TaskConfig(demo=True, datasets=["starter_math"], limit=1, work_dir=folder)
        started_s = perf_counter()
        outcome = run_async(evaluate(config, make_console(stderr=True, quiet=True), live=False))
        took_s = perf_counter() - started_s
    if outcome.report is None or outcome.exit_code(ignore_errors=False):
        return Finding("a small run", "bad", f"ended as {outcome.run.state.value.lower()}: {outcome.run.error}")
    return Finding("a small run", "ok", f"of a simulated model, from start to report in {took_s:.1f} s")


def _endpoint(args: argparse.Namespace) -> Finding:
    with tempfile.TemporaryDirectory(prefix="evalmesh-doctor-") as folder:
        config = TaskConfig.load(
            None,
            {
                **{name: value for name in _OF_ENDPOINTS if (value := getattr(args, name))},
                "datasets": ["starter_math"],
                "limit": 1,
                "work_dir": folder,
            },
        )
        run_async(rehearse(config, counted=False))
    return Finding("endpoint", "ok", f"{config.api_url or 'this machine'} answers for {config.model}")
