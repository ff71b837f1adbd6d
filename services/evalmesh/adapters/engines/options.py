"""The engines there are, and the options of each (`--model-args`), read once before a process is started."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import msgspec

from evalmesh.domain.errors import InvalidInput, Unimplemented
from evalmesh.domain.hub import HubName

FIELD = "model.args"
PATHS = ("tokenizer", "chat_template", "lora")
"""Options that may name files of the runner's machine."""
CODE = ("trust_remote_code",)
"""By which a spec can have code run that it brings along."""
_ALIASES: Mapping[str, str] = {
    "precision": "dtype",
    "torch_dtype": "dtype",
    "tokenizer_path": "tokenizer",
    "device": "device_map",
    "dp_size": "data_parallel",
    "data_parallel_size": "data_parallel",
    "max_model_len": "max_length",
}
"""What users of other tools call them."""
_DTYPES: Mapping[str, str] = {
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
}
_WORDS: Mapping[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    tuple: "a list",
}
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class EngineArgs(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Those of every engine of ours. Where nothing is said, the engine chooses."""

    hub: HubName = "huggingface"
    """Where a model that is no folder here comes from."""
    revision: str = ""
    """Branch, tag or commit of a model that comes from a hub."""
    dtype: Dtype = "auto"
    """`auto`: as the checkpoint has it."""
    tokenizer: str = ""
    """Folder or name of another tokenizer than the model's own."""
    trust_remote_code: bool = False
    """Whether code that comes with the model is run."""
    chat_template: str = ""
    """Template, or a file with one, instead of the tokenizer's own."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables for the template."""
    enable_thinking: bool | None = None
    """The variable of this name, which many templates have."""
    add_bos_token: bool | None = None
    """Whether texts begin with the start token where no chat template says so; `None`: as the tokenizer does."""
    max_length: int | None = None
    """Tokens of prompt and answer together; `None`: as many as the model was made for."""
    data_parallel: int | None = None
    """So many copies of the model, each in a process and on devices of its own; `None`: one for each of `devices`."""
    devices: tuple[str | int, ...] = ()
    """GPUs to use, by number or UUID; empty: all that are visible. Several copies share them out."""


class TransformersArgs(EngineArgs, frozen=True, kw_only=True):
    """Of the engine `transformers`."""

    device_map: str | dict[str, str | int] = ""
    """`cpu`, `cuda`, `cuda:1`, `auto` (over all devices); empty: the GPU where there is one."""
    attn_implementation: str = ""
    """`eager`, `sdpa`, `flash_attention_2`, ..."""
    batch_size: int | None = None
    """The most sequences in one batch; `None`: as many as the concurrency and the memory allow."""
    batch_tokens: int | None = None
    """The most tokens in one batch, padding included."""


class VllmArgs(EngineArgs, frozen=True, kw_only=True):
    """Of the engine `vllm`."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    enforce_eager: bool = False
    enable_prefix_caching: bool | None = None
    quantization: str = ""
    lora: str = ""
    """Folder of an adapter that is used for every request."""
    reasoning_parser: str = ""
    """Takes the thinking out of answers, by its name in vLLM."""
    tool_call_parser: str = ""
    """Finds the calls of tools in answers, by its name in vLLM."""
    engine_args: dict[str, Any] = {}
    """Everything else that vLLM's `AsyncEngineArgs` takes, by its name there; may be given without this name around."""


def code_in(args: EngineArgs) -> str:
    """The option by which code would be run that a spec brings along; empty when there is none.

    Numbers and truths name no code; any other option that is not in a table of ours may.
    """
    rest: Mapping[str, object] = getattr(args, "engine_args", {})
    words = (name for name, value in rest.items() if value is not None and not isinstance(value, int | float))
    return next((name for name in CODE if getattr(args, name, None)), next(words, ""))


@dataclass(frozen=True, slots=True)
class EngineKind:
    """One engine."""

    implementation: str
    """`module:function`, an `engine.OpenEngine`."""
    args: type[EngineArgs]
    packages: tuple[str, ...]
    """Without them it cannot be opened."""
    extra: str
    rest: str = ""
    """The option that takes what the table does not name, for an engine that knows more options than we do."""


ENGINES: Mapping[str, EngineKind] = {
    "transformers": EngineKind(
        "evalmesh.adapters.engines.transformers.engine:open_transformers",
        TransformersArgs,
        ("torch", "transformers", "accelerate"),
        "transformers",
    ),
    "vllm": EngineKind("evalmesh.adapters.engines.vllm.engine:open_vllm", VllmArgs, ("vllm",), "vllm", "engine_args"),
}


def require(kind: EngineKind) -> None:
    """Looks for the engine's packages without loading them. Raises `Unimplemented`."""
    if missing := [name for name in kind.packages if find_spec(name) is None]:
        listed = " and ".join(missing)
        raise Unimplemented(
            f"The engine {kind.extra} needs {listed}, which {'is' if len(missing) == 1 else 'are'} not installed here; "
            f"install evalmesh with the extra: pip install 'evalmesh[{kind.extra}]'.",
            {"field": "model.engine"},
        )


def read_args(engine: str, kind: EngineKind, given: Mapping[str, object]) -> EngineArgs:
    """The options as the engine takes them. Raises `InvalidInput` with the name that was typed."""
    names = {field.encode_name: field for field in msgspec.structs.fields(kind.args)}
    read: dict[str, object] = {}
    rest: dict[str, object] = {}
    inner = given.get(kind.rest, {})
    if isinstance(inner, Mapping):  # as if given without that name around, so that no option is read past its table
        given = {**{name: value for name, value in given.items() if name != kind.rest}, **inner}
    for typed, value in given.items():
        name = typed.replace("-", "_")
        name = name if name in names else _ALIASES.get(name, name)
        if name not in names and kind.rest:
            rest[typed.replace("-", "_")] = value
            continue
        if name not in names:
            near = difflib.get_close_matches(typed, [*names, *_ALIASES], n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(sorted(names))}."
            raise InvalidInput(
                f"model.args has {typed!r}, which the engine {engine} does not know; {advice}", {"field": FIELD}
            )
        if name in read:
            raise InvalidInput(f"model.args says {name} twice, as {typed!r} too; leave one out.", {"field": FIELD})
        try:
            read[name] = msgspec.convert(_dtype(value) if name == "dtype" else value, names[name].type, strict=False)
        except msgspec.ValidationError as error:
            raise InvalidInput(
                f"model.args.{typed} is {value!r}; {_way_out(names[name].type)}", {"field": f"{FIELD}.{typed}"}
            ) from error
    if rest:
        read[kind.rest] = rest
    args = msgspec.convert(read, kind.args)
    if args.data_parallel is not None and args.data_parallel < 1:
        raise InvalidInput(
            f"model.args.data_parallel is {args.data_parallel}; ask for at least 1 copy.",
            {"field": f"{FIELD}.data_parallel"},
        )
    return args


def _dtype(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = value.removeprefix("torch.").lower()
    return _DTYPES.get(name, name)


def _way_out(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"give one of {', '.join(map(str, get_args(kind)))}."
    inner = [get_origin(one) or one for one in (get_args(kind) if isinstance(kind, UnionType) else (kind,))]
    return f"give {' or '.join(_WORDS[one] for one in inner if one in _WORDS)}."
