"""Finds APIs by name: the ones in this folder, and those of installed packages.

Nothing is imported before it is asked for: the engine loads the one API it speaks.
"""

from importlib import import_module

from evalmesh.domain.errors import InvalidInput
from evalmesh.load_generator.apis.base import LoadApi

GROUP = "evalmesh.load_apis"

_BUILT_IN = {
    "chat": "chat:ChatApi",
    "completions": "completions:CompletionsApi",
    "embeddings": "embeddings:EmbeddingsApi",
    "rerank": "rerank:RerankApi",
    "responses": "responses:ResponsesApi",
}


def get(name: str) -> LoadApi:
    """The API of this name; raises `InvalidInput` that lists those there are."""
    if name in _BUILT_IN:
        module, _, made_by = _BUILT_IN[name].partition(":")
        api: LoadApi = getattr(import_module(f"evalmesh.load_generator.apis.{module}"), made_by)()
        return api
    return _plug_in(name)


def names() -> tuple[str, ...]:
    """All names, sorted; plug-ins are named without loading them."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))}))


def _plug_in(name: str) -> LoadApi:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

    points = tuple(entry_points(group=GROUP, name=name))
    if not points:
        raise InvalidInput(
            f"api: there is none named '{name}'; there are {', '.join(names())}. A package adds one through the entry "
            f"point group '{GROUP}'.",
            {"field": "target.api", "value": name},
        )
    if len(points) > 1:
        raise InvalidInput(
            f"More than one installed package brings an API named '{name}': "
            f"{', '.join(point.value for point in points)}. Uninstall all but one.",
            {"field": "target.api", "value": name},
        )
    try:
        api = points[0].load()()
    except Exception as error:
        raise InvalidInput(
            f"The installed entry point '{points[0].value}' of group '{GROUP}' failed with {type(error).__name__}: "
            f"{error}. Repair or uninstall that package.",
            {"field": "target.api", "value": name},
        ) from error
    if not isinstance(api, LoadApi):
        raise InvalidInput(
            f"The installed entry point '{points[0].value}' of group '{GROUP}' makes a {type(api).__name__}; it must "
            "make a LoadApi.",
            {"field": "target.api", "value": name},
        )
    return api
