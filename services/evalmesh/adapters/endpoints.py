"""The endpoint of a pool, by its engine: one table for all who open endpoints."""

from collections.abc import Callable, Mapping

from evalmesh.adapters.engines.house import House, HouseRules
from evalmesh.adapters.openai.endpoint import open_openai_endpoint
from evalmesh.adapters.openai.neighbours import Neighbours
from evalmesh.domain.errors import Unimplemented
from evalmesh.domain.run import OWN_ENGINES
from evalmesh.domain.work import Pool
from evalmesh.ports.endpoint import Endpoint
from evalmesh.ports.model_servers import ModelServers
from evalmesh.wire.runs.media_files import MediaFiles


class Endpoints:
    """An `EndpointOpener`. Only for the loop it is used in."""

    def __init__(self, servers: ModelServers, media: MediaFiles, rules: HouseRules) -> None:
        """`servers`: that may be asked, and their keys. `rules`: of the engines that run here."""
        self._house = House(rules, media)
        neighbours = Neighbours()

        def ask_server(pool: Pool) -> Endpoint:
            return open_openai_endpoint(pool, servers, media=media, neighbours=neighbours)

        self._open: Mapping[str, Callable[[Pool], Endpoint]] = {
            **dict.fromkeys(("openai", "anthropic", "litellm"), ask_server),
            **dict.fromkeys(OWN_ENGINES, self._house.open),
        }

    def __call__(self, pool: Pool) -> Endpoint:
        """See the port."""
        engine = pool.model.engine
        if engine not in self._open:
            raise Unimplemented(f"A model runner has no engine {engine!r}.", {"field": "model.engine"})
        return self._open[engine](pool)

    async def close(self) -> None:
        """Ends the engines that run here."""
        await self._house.close()
