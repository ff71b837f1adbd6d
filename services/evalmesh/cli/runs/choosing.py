"""Which run a command is about: what the user typed, or the newest that anyone would mean."""

from collections.abc import Sequence

from evalmesh.cli.outputs import RUNS
from evalmesh.cli.platform.session import Place
from evalmesh.cli.runs.listing import GOING_ON
from evalmesh.cli.which import LATEST, Known, choose, none_such
from evalmesh.domain.errors import InvalidInput, NotFound
from evalmesh.domain.run import Run
from evalmesh.domain.run_filter import RunFilter
from evalmesh.domain.state import State
from evalmesh.sdk import AsyncClient

_MOST = 1000


async def chosen_id(client: AsyncClient, text: str, place: Place) -> str:
    """The id that a word means to the platform. Raises `NotFound`, and `InvalidInput` where it means several."""
    if text == LATEST:
        return (await newest(client, frozenset())).id
    found = RUNS.path_id(text, place.work_dir)
    if found is not None:
        return found
    runs, _ = await client.find_runs(RunFilter(word=text), _MOST)
    chosen = choose(text, known(runs), noun=RUNS.noun, lister=RUNS.lister)
    if chosen is None:
        near = known((await client.find_runs(RunFilter(), _MOST))[0])
        raise none_such(text, near, noun=RUNS.noun, lister=RUNS.lister)
    return chosen


def known(runs: Sequence[Run]) -> list[Known]:
    """Runs, as far as a word may mean one of them."""
    return [Known(one.id, one.spec.display_name) for one in runs]


async def newest(client: AsyncClient, states: frozenset[State]) -> Run:
    """The newest run in one of these states, or of all. Raises `NotFound`."""
    runs, _ = await client.find_runs(RunFilter(states=states), 1)
    if not runs:
        raise NotFound("There is no run yet; try: evalmesh eval --demo")
    return runs[0]


async def going_on(client: AsyncClient, place: Place) -> list[Run]:
    """Runs somebody is at work on, newest first."""
    runs, _ = await client.find_runs(RunFilter(states=GOING_ON), _MOST)
    return [one for one in runs if place.goes_on(one)]


async def to_watch(client: AsyncClient, place: Place) -> str:
    """The newest run that is going on, else the newest."""
    runs = await going_on(client, place)
    return runs[0].id if runs else (await newest(client, frozenset())).id


async def to_cancel(client: AsyncClient, place: Place) -> str:
    """The only run that is going on. Raises `NotFound`, and `InvalidInput` where there are several."""
    runs = await going_on(client, place)
    if not runs:
        raise NotFound("No run is going on, so there is none to cancel; see `evalmesh runs list`.")
    if len(runs) > 1:
        shown = "\n".join(f"  {one.words}" for one in known(runs))
        raise InvalidInput(f"{len(runs)} runs are going on; say which one to cancel:\n{shown}", {"field": "run"})
    return runs[0].id


async def to_resume(client: AsyncClient, place: Place) -> str:
    """The newest run that was interrupted or has failed. Raises `NotFound`."""
    runs, _ = await client.find_runs(RunFilter(states=GOING_ON | {State.FAILED}), _MOST)
    for one in runs:
        if not place.goes_on(one):
            return one.id
    raise NotFound("No run was interrupted or has failed, so there is none to go on with; see `evalmesh runs list`.")
