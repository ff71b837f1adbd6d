"""A model in a folder of this machine: whether it is one, seen before a process is started to load it."""

import re
from difflib import get_close_matches
from pathlib import Path

from evalmesh.adapters.engines.options import EngineArgs
from evalmesh.domain.errors import InvalidInput, NotFound

FIELD = "model.model"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json")
_SHOWN = 6


def local_model(name: str) -> Path | None:
    """The folder that the name means; `None` for the name of a hub.

    Raises:
        NotFound: There is no such folder, and no hub has such names.
        InvalidInput: It holds no model.
    """
    folder = Path(name).expanduser()
    try:
        there = folder.exists()
    except (OSError, ValueError):
        there = False
    if not there:
        if _HUB_NAME.fullmatch(name) and not name.startswith((".", "~")):
            return None
        raise NotFound(
            f"There is no folder {name!r} here (--model), from which the model could be loaded.{_near(folder)}", _FIELD
        )
    if not folder.is_dir():
        raise InvalidInput(
            f"{name!r} (--model) is a file; name the folder that has the model's config.json and its weights.", _FIELD
        )
    _check_folder(name, folder)
    return folder


def sources_of(model: str, args: EngineArgs) -> list[Path]:
    """Where a loaded model was read from: its folder or what was fetched of it, and files that the options name."""
    named = [_fetched(model, args.revision), _fetched(args.tokenizer, "") if args.tokenizer else None]
    if args.chat_template and "{" not in args.chat_template:
        named.append(Path(args.chat_template).expanduser())
    return [path for path in named if path is not None]


def _fetched(name: str, revision: str) -> Path | None:
    """The folder of a model or tokenizer; of one from a hub, where it was put when it was loaded."""
    if (folder := Path(name).expanduser()).is_dir():
        return folder
    from transformers.utils import cached_file  # noqa: PLC0415 - only in the child

    for file in ("config.json", "tokenizer_config.json"):
        try:
            found = cached_file(name, file, revision=revision or None, local_files_only=True)
        except OSError:
            continue
        if found is not None:
            return Path(found).parent
    return None


_FIELD = {"field": FIELD}


def _near(folder: Path) -> str:
    try:
        there = {path.name: path for path in folder.parent.iterdir() if path.is_dir()}
    except OSError:
        there = {}
    near = get_close_matches(folder.name, there, n=1)
    return f" Did you mean {str(there[near[0]])!r}?" if near else ""


def _check_folder(name: str, folder: Path) -> None:
    files = sorted(path.name for path in folder.iterdir())
    if "config.json" not in files:
        raise InvalidInput(f"The folder {name!r} (--model) has no config.json{_instead(folder, files)}", _FIELD)
    if not any(file.endswith(_WEIGHTS) for file in files):
        raise InvalidInput(
            f"The folder {name!r} (--model) has a config.json and no weights (*.safetensors, *.bin){_listed(files)}; "
            "bring them, or name the folder that has them.",
            _FIELD,
        )


def _instead(folder: Path, files: list[str]) -> str:
    if "adapter_config.json" in files:
        return ": it holds an adapter, and no model; name the folder of the model that it belongs to."
    inside = [path.name for path in folder.iterdir() if path.is_dir() and (path / "config.json").exists()]
    if inside:
        return f", but its folders {', '.join(sorted(inside)[-_SHOWN:])} have one; name one of these."
    return f", so it holds no model{_listed(files)}; name the folder that `save_pretrained` wrote."


def _listed(files: list[str]) -> str:
    if not files:
        return "; it is empty"
    more = ", …" if len(files) > _SHOWN else ""
    return f"; it has {', '.join(files[:_SHOWN])}{more}"
