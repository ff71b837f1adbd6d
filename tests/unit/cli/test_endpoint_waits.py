"""Waiting for an endpoint that starts: said, bounded, and for nothing else."""

import io

import pytest
from rich.console import Console

from evalmesh.cli.platform import waits
from evalmesh.cli.platform.waits import when_ready
from evalmesh.domain.errors import NotFound, Unavailable

AWAY = Unavailable("The model's endpoint http://h/v1 is not available.", {"field": "model.url"})


class Call:
    """Raises its errors one after the other, then returns."""

    def __init__(self, *errors):
        self.errors = list(errors)

    async def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return "run"


@pytest.fixture
def console(monkeypatch):
    monkeypatch.setattr(waits, "_READY_EVERY_S", 0.01)
    return Console(file=io.StringIO(), width=200)


def said(console):
    return console.file.getvalue()


async def test_an_endpoint_that_is_there_is_not_waited_for(console):
    assert await when_ready(Call(), 0, console) == "run"
    assert said(console) == ""


async def test_one_that_starts_is_waited_for_and_that_is_said_once(console):
    assert await when_ready(Call(*[AWAY] * 20), 60, console) == "run"
    assert said(console).count("Waiting for it for 1:00 more") == 1


async def test_it_is_waited_for_no_longer_than_asked_for(console):
    with pytest.raises(Unavailable):
        await when_ready(Call(*[AWAY] * 1000), 0.1, console)


async def test_who_does_not_wait_is_told_how_to(console):
    with pytest.raises(Unavailable, match="--ready-timeout"):
        await when_ready(Call(Unavailable("x", {"field": "model.url"})), 0, console)


@pytest.mark.parametrize("error", [Unavailable("The platform is away."), NotFound("x", {"field": "model.url"})])
async def test_nothing_else_is_waited_for(console, error):
    with pytest.raises(type(error)):
        await when_ready(Call(error), 60, console)
