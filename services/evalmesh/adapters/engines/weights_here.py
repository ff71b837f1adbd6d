"""Where a model is on this machine: in its folder, or where it is put when a hub has sent it."""

from collections.abc import Callable
from pathlib import Path

from evalmesh.adapters.engines.model_files import FIELD
from evalmesh.adapters.engines.options import EngineArgs
from evalmesh.adapters.hubs.hubs import HubRules
from evalmesh.adapters.hubs.opening import model_folder
from evalmesh.domain.completion import as_sentence
from evalmesh.domain.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable


class WeightsHere:
    """Of one model."""

    def __init__(self, name: str, args: EngineArgs, folder: Path | None, rules: HubRules | None) -> None:
        """`folder`: where it is; `None`: it comes from a hub, by these rules."""
        self._name = name
        self._args = args
        self._folder = folder
        self._rules = rules

    @property
    def model(self) -> str:
        """What a library loads."""
        return self._name if self._folder is None else str(self._folder.absolute())

    async def bring(self, tell: Callable[[str], None]) -> None:
        """Fetches what is not here; `tell` hears how far that has come. Raises what `model_folder` does."""
        if self._folder is None:
            try:
                self._folder = await model_folder(
                    self._name, self._args.revision, self._args.hub, self._rules, lambda one: tell(f"{one} are here")
                )
            except (FailedPrecondition, NotFound, PermissionDenied, Unavailable) as error:
                raise type(error)(
                    f"{as_sentence(error.message)} {self._name!r} (--model) is no folder here; bring its files "
                    "(config.json, the tokenizer's, *.safetensors) into one and name that, or mend the way to the hub.",
                    {**error.details, "field": FIELD},
                ) from error
