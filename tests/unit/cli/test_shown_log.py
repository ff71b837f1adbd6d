"""What `--debug` shows of the services' logs."""

import logging
from dataclasses import replace

import pytest

from evalmesh.cli.platform.session import start_logging
from evalmesh.local.settings import LocalSettings


@pytest.fixture
def root():
    logger = logging.getLogger()
    before, level = list(logger.handlers), logger.level
    logger.handlers = []
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.level = before, level


def test_warnings_are_shown_and_the_log_is_named(tmp_path, root, capsys):
    settings = replace(LocalSettings(work_dir=tmp_path), log_level="DEBUG")
    start_logging(settings)
    logging.getLogger("evalmesh.model_runner.pool").warning("nothing listens at %s\x1b[2J", "http://h")
    logging.getLogger("evalmesh.scorer").info("scored")
    said = capsys.readouterr().err.splitlines()
    log = settings.state_dir / "logs" / "platform.log"
    assert said[0] == f"log      {log}"
    assert said[1].startswith("warning: model_runner: nothing listens at http://h")
    assert "\x1b" not in said[1]
    assert len(said) == 2
    assert "scored" in log.read_text()


def test_without_it_they_are_in_the_log_alone(tmp_path, root, capsys):
    start_logging(LocalSettings(work_dir=tmp_path))
    logging.getLogger("evalmesh.model_runner").warning("odd")
    assert capsys.readouterr().err == ""
