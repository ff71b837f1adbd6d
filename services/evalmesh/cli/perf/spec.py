"""From the user's config to the load test's spec. A literal key stops here, and files become digests."""

import tempfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalmesh.cli.exports import without_keys
from evalmesh.cli.outputs import client_config
from evalmesh.cli.perf.config import PerfConfig, is_model_folder
from evalmesh.cli.perf.keys import told_in_keys
from evalmesh.cli.perf.levels import arrival_of, levels_of, load_notes, objective_of, pause_of, search_of
from evalmesh.cli.perf.prompts import Uploads, prompt_notes, prompts_of
from evalmesh.cli.perf.target import LOCAL_APIS, target_of, told
from evalmesh.cli.perf.tokenizer import find_tokenizer, pack_tokenizer
from evalmesh.domain.errors import InvalidInput
from evalmesh.domain.load_test import LoadTestSpec
from evalmesh.wire.load_tests.checks import check_load_spec

if TYPE_CHECKING:
    from evalmesh.sdk import AsyncClient  # loaded while the processes of a platform start

_DATA_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".txt", ".tsv", ".arrow", ".gz")
_MOST_NAMED = 5
_SEED = 42
_NOT_KEPT = frozenset({"api_key", "wandb_api_key", "swanlab_api_key", "dry_run", "debug", "notes"})
NO_DIGEST_YET = "0" * 64


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """What a load test takes from this machine."""

    data: Path | None
    tokenizer: Path | None


def local_files(config: PerfConfig) -> LocalFiles:
    """The files a config names. Raises `InvalidInput` for one that is not there."""
    tokenizer = None
    if config.tokenizer_path:
        tokenizer = find_tokenizer(config.tokenizer_path)
    elif config.model and is_model_folder(config.model):
        tokenizer = Path(config.model).expanduser()
    return LocalFiles(_data_file(config.dataset_path) if config.dataset_path else None, tokenizer)


def _data_file(text: str) -> Path:
    path = Path(text).expanduser()
    field = {"field": "dataset_path"}
    if _is_readable(path):
        return path
    if not path.is_dir():
        raise InvalidInput(f"dataset_path: {text!r} is no file; give a file of this machine.", field)
    # A few are enough to tell that it is not one: the folder may be a whole disk.
    files = (one for one in path.rglob("*") if one.name.endswith(_DATA_SUFFIXES) and one.is_file())
    found = list(islice(files, _MOST_NAMED))
    if len(found) == 1 and _is_readable(found[0]):
        return found[0]
    names = ", ".join(sorted(str(one.relative_to(path)) for one in found)) or "no data file"
    raise InvalidInput(f"dataset_path: {text!r} is a folder with {names}; name one file of it.", field)


def _is_readable(path: Path) -> bool:
    """Whether it is a file; raises `InvalidInput` for one that is empty or closed to us."""
    field = {"field": "dataset_path"}
    try:
        if not path.is_file():
            if path.is_dir():
                next(path.iterdir(), None)
            return False
        with path.open("rb") as file:
            if file.read(1):
                return True
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        message = f"dataset_path: '{path}' cannot be read: {why}; check its permissions."
        raise InvalidInput(message, field) from None
    raise InvalidInput(f"dataset_path: '{path}' is empty; give a file with rows.", field)


def to_load_test_spec(config: PerfConfig, uploads: Uploads) -> LoadTestSpec:
    """The spec this config asks for. Raises `InvalidInput` and `Unimplemented`."""
    target = target_of(config)
    arrival = arrival_of(config)
    labels = {**config.labels, **({"alias": config.alias} if config.alias else {})}
    search = search_of(config)
    spec = LoadTestSpec(
        target=target,
        prompts=prompts_of(config, target.api, uploads),
        arrival=arrival,
        levels=levels_of(config, arrival.kind),
        repeats=1 if search else config.repeats,
        pause_s=pause_of(config),
        warmup=config.warmup_num,
        slo=objective_of(config),
        search=search,
        generators=config.generators,
        seed=_SEED if config.seed is None else config.seed,
        server_metrics=_server_metrics(config),
        check_endpoint=not config.no_test_connection,
        display_name=config.name or config.alias,
        labels=labels,
    )
    return replace(spec, client_config=client_config(repeating(config, spec)))


def repeating(config: PerfConfig, spec: LoadTestSpec) -> dict[str, Any]:
    """The keys of a config that asks for the same load test again; of keys at most the name of what holds them."""
    values = config.model_dump(mode="json", exclude_defaults=True, exclude=set(_NOT_KEPT))
    values["url"] = config.url or spec.target.url
    if config.api in LOCAL_APIS:
        del values["url"]  # the next server may have another port
    values |= {"headers": dict(spec.target.headers), "api_key": spec.target.key_ref}
    values["export_args"] = without_keys(config.export_args)
    for name in ("dataset_path", "ca_file", "tokenizer_path", "prompt", "query_template"):
        text, mark = str(values.get(name) or ""), "@" if name in {"prompt", "query_template"} else ""
        path = Path(text.removeprefix(mark)).expanduser()
        if text and text.startswith(mark) and path.exists():
            values[name] = f"{mark}{path.absolute()}"
    return {name: value for name, value in values.items() if value not in ({}, "")}


def _server_metrics(config: PerfConfig) -> tuple[str, ...]:
    given = config.server_metrics or ["auto"]
    if "none" in given:
        if len(given) > 1:
            raise InvalidInput(
                "server_metrics: 'none' goes with no address; leave out one of them.", {"field": "server_metrics"}
            )
        return ()
    for one in given:
        if one not in {"auto", "nvml"} and not one.startswith(("http://", "https://")):
            raise InvalidInput(
                f"server_metrics: {one!r} is no http address; give e.g. http://127.0.0.1:8000/metrics, auto, nvml or "
                "none.",
                {"field": "server_metrics"},
            )
    return tuple(given)


def resolve(config: PerfConfig) -> LoadTestSpec:
    """The spec with digests still to come: whatever is wrong is said before anything is started."""
    files = local_files(config)
    spec = to_load_test_spec(
        config, Uploads(NO_DIGEST_YET if files.data else "", NO_DIGEST_YET if files.tokenizer else "")
    )
    with told_in_keys():
        check_load_spec(spec)
    return spec


async def submit_spec(client: "AsyncClient", config: PerfConfig) -> LoadTestSpec:
    """Sends the files to the platform and gives the spec that names them."""
    files = local_files(config)
    data = await client.import_load_file(files.data) if files.data else ""
    tokenizer = ""
    if files.tokenizer:
        with tempfile.TemporaryDirectory(prefix="evalmesh-") as folder:
            packed = Path(folder) / "tokenizer.json"
            packed.write_bytes(pack_tokenizer(files.tokenizer))
            tokenizer = await client.import_load_file(packed)
    return to_load_test_spec(config, Uploads(data, tokenizer))


def all_notes(config: PerfConfig) -> list[str]:
    """Sentences about what is taken in another way than EvalScope does, or than was said."""
    return [*told(config), *config.notes, *load_notes(config), *prompt_notes(config)]
