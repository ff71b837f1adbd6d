"""Finds the model's tokenizer on this machine and packs what of it a load generator needs."""

import json
import os
from pathlib import Path

from evalmesh.domain.errors import InvalidInput

FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
"""What is sent along, as far as it is there; the first must be."""


def find_tokenizer(text: str, field: str = "tokenizer_path") -> Path:
    """The folder of a tokenizer given as one, as its tokenizer.json, or as a hub id that is in a local cache.

    Raises `InvalidInput`.
    """
    given = Path(text).expanduser()
    if given.name == FILES[0] and given.is_file():
        return given.parent
    if given.is_dir():
        if (given / FILES[0]).is_file():
            return given
        raise InvalidInput(
            f"{field}: {text!r} has no tokenizer.json. Where only older files are, make one with transformers: "
            f"AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR).",
            {"field": field},
        )
    looked: list[str] = []
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        for folder in (*_hugging_face(text), *_model_scope(text)):
            if (folder / FILES[0]).is_file():
                return folder
        looked = [str(_hugging_face_root()), str(_model_scope_root())]
    where = f" nor in the caches {' and '.join(looked)}" if looked else ""
    raise InvalidInput(
        f"{field}: {text!r} is no folder{where}. Nothing is downloaded: fetch it with `hf download {text}` or "
        f"`modelscope download {text}`, or give the model's folder; without one the server's own counts are used."
        if looked
        else f"{field}: {text!r} is no folder with a tokenizer.json; give the model's folder, or a hub id that is in a "
        f"local cache; without one the server's own counts are used.",
        {"field": field},
    )


def pack_tokenizer(folder: Path) -> bytes:
    """The files as one JSON mapping of names to texts; the same bytes each time."""
    texts = {}
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            texts[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise InvalidInput(
                f"tokenizer_path: {str(path)!r} is no text in UTF-8; fetch the tokenizer again.",
                {"field": "tokenizer_path"},
            ) from None
    return json.dumps(texts, ensure_ascii=False, sort_keys=True).encode()


def _hugging_face_root() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def _hugging_face(name: str) -> list[Path]:
    """Snapshots of a model, the one `main` points to first."""
    base = _hugging_face_root() / f"models--{name.replace('/', '--')}"
    main = base / "refs" / "main"
    first = [base / "snapshots" / main.read_text(encoding="utf-8").strip()] if main.is_file() else []
    return [*first, *sorted((base / "snapshots").glob("*"))]


def _model_scope_root() -> Path:
    return Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope" / "hub").expanduser()


def _model_scope(name: str) -> list[Path]:
    """It writes dots of a name as three underscores, and has moved its models once."""
    owner, _, model = name.partition("/")
    root = _model_scope_root()
    names = dict.fromkeys((model, model.replace(".", "___")))
    return [
        base / owner / one for base in (root / "models", root, root / "hub" / "models", root / "hub") for one in names
    ]
