"""Loads a model and its tokenizer; what goes wrong is said in one sentence, with the option that would change it."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as library_logging

from evalmesh.adapters.engines.engine import EngineError
from evalmesh.adapters.engines.options import TransformersArgs
from evalmesh.adapters.engines.texts import load_tokenizer, said_by
from evalmesh.adapters.engines.transformers.budget import out_of_memory

_SHOWN = 3
_CONTEXT = 2048
"""Where neither the model nor the tokenizer says how much it was made for; lm-eval takes the same."""
_MOST_SAID = 1 << 30
"""Tokenizers say `model_max_length` of 10**30 for "no bound"."""
_MODEL = "model.model"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded."""

    model: Any
    tokenizer: Any
    context: int
    """Tokens of prompt and answer together."""
    ends: frozenset[int]
    """Tokens that end an answer."""


def load(name: str, args: TransformersArgs) -> Loaded:
    """Raises `EngineError`."""
    library_logging.disable_progress_bar()
    code: dict[str, Any] = {"trust_remote_code": args.trust_remote_code}
    if args.revision:
        code["revision"] = args.revision
    config = _config(name, code)
    tokenizer = load_tokenizer(name, args)
    device_map = _device_map(args)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            name, config=config, output_loading_info=True, **code, **_how(args, device_map)
        )
    except Exception as error:
        # The library raises whatever the libraries below it raise.
        raise _failed(name, args, error) from error
    _check_weights(name, info)
    if device_map is None:
        model = model.to("cpu")
    return Loaded(model.eval(), tokenizer, _context(config, tokenizer, args), _ends(model, tokenizer))


def _how(args: TransformersArgs, device_map: Any) -> dict[str, Any]:
    how: dict[str, Any] = {"dtype": args.dtype if args.dtype == "auto" else getattr(torch, args.dtype)}
    if device_map is not None:
        how["device_map"] = device_map
    if args.attn_implementation:
        how["attn_implementation"] = args.attn_implementation
    return how


def _config(name: str, code: dict[str, Any]) -> Any:
    try:
        return AutoConfig.from_pretrained(name, **code)
    except Exception as error:
        text = str(error)
        if "trust_remote_code" in text:
            raise EngineError(
                f"{name!r} comes with code of its own, which is not run unless you say so: "
                "--model-args trust_remote_code=true.",
                "model.args.trust_remote_code",
            ) from error
        if "does not recognize this architecture" in text or "Unrecognized model" in text:
            version = importlib.metadata.version("transformers")
            raise EngineError(
                f"transformers {version} does not know the architecture of {name!r} (model_type in its config.json); "
                "install a newer one, or the engine that its authors name.",
                _MODEL,
            ) from error
        raise _not_found(name, error) from error


def _not_found(name: str, error: Exception) -> EngineError:
    if Path(name).expanduser().is_dir():
        return EngineError(f"The config.json of {name!r} cannot be read: {said_by(error)}", _MODEL)
    return EngineError(
        f"{name!r} is no folder here, and as a name of a hub it could not be had: {said_by(error)}", _MODEL
    )


def _device_map(args: TransformersArgs) -> Any:
    """What accelerate is told; `None` for the CPU."""
    wanted = args.device_map
    if not wanted:
        if torch.cuda.is_available():
            return {"": 0}
        return {"": "mps"} if torch.backends.mps.is_available() else None
    names = [wanted] if isinstance(wanted, str) else [*map(str, wanted.values())]
    for name in names:
        if name.startswith("cuda") or name.isdigit():
            _check_gpu(name)
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return None
    if isinstance(wanted, str) and (wanted.startswith(("cuda", "mps", "xpu")) or wanted.isdigit()):
        return {"": int(wanted) if wanted.isdigit() else wanted}
    return wanted


def _check_gpu(name: str) -> None:
    field = "model.args.device_map"
    if not torch.cuda.is_available():
        why = "this build of torch has no CUDA" if torch.version.cuda is None else "the driver shows none"
        raise EngineError(f"model.args.device_map asks for {name!r}, and there is no GPU here ({why}); use cpu.", field)
    number = name.removeprefix("cuda").removeprefix(":")
    if number and int(number) >= torch.cuda.device_count():
        raise EngineError(
            f"model.args.device_map asks for {name!r}, and this process sees {torch.cuda.device_count()} GPU(s), "
            "counted from 0.",
            field,
        )


def _failed(name: str, args: TransformersArgs, error: Exception) -> EngineError:
    """Why the weights could not be loaded."""
    text = said_by(error)
    if out_of_memory(error):
        return EngineError(
            f"{name!r} does not fit into the memory ({text}); a smaller dtype or device_map=auto may help.",
            "model.args.device_map",
        )
    if isinstance(error, ImportError) and args.attn_implementation:
        return EngineError(
            f"model.args.attn_implementation={args.attn_implementation} cannot be used here: {text}",
            "model.args.attn_implementation",
        )
    if "AutoModelForCausalLM" in text:
        return EngineError(f"{name!r} is no causal language model, which is what the engine transformers runs.", _MODEL)
    if "no file named" in text or isinstance(error, FileNotFoundError):
        return EngineError(f"{name!r} lacks files with weights: {text}", _MODEL)
    if type(error).__name__ == "SafetensorError":
        return EngineError(f"The weights of {name!r} are damaged or incomplete ({text}); copy them again.", _MODEL)
    return EngineError(f"{name!r} cannot be loaded: {type(error).__name__}: {text}", _MODEL)


def _check_weights(name: str, info: Any) -> None:
    """Weights that are not there were made up by the library, with a warning that nobody reads."""
    said = info if isinstance(info, dict) else vars(info)
    missing = sorted(map(str, said.get("missing_keys", ())))
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise EngineError(
            f"The checkpoint {name!r} lacks weights that the model has: {', '.join(missing[:_SHOWN])}{more}. "
            "Is a file missing, or is it a checkpoint of something else?",
            _MODEL,
        )


def _context(config: Any, tokenizer: Any, args: TransformersArgs) -> int:
    if args.max_length is not None:
        return args.max_length
    text = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        if (value := getattr(text, name, None)) is not None:
            return int(value)
    said = getattr(tokenizer, "model_max_length", None)
    return int(said) if said is not None and said < _MOST_SAID else _CONTEXT


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    """Those of generation_config.json, a list too, and the tokenizer's own: fine-tuned models forget one of the two."""
    said = getattr(model.generation_config, "eos_token_id", None)
    if said is None:
        said = model.config.get_text_config(decoder=True).eos_token_id
    ends = {said} if isinstance(said, int) else set(said or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return frozenset(ends)
