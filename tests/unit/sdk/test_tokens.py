"""The token of a platform of the same user is found by its address, and that of a dead one is shown to nobody."""

import subprocess
import sys

import pytest

from evalmesh.domain.errors import InvalidInput
from evalmesh.sdk.tokens import known, state_folder, token_for

HOLD = """
import sys, time
from pathlib import Path
from evalmesh.sdk.tokens import known
with known(sys.argv[1], Path(sys.argv[2])):
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def token_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "token"
    path.write_text("the-token")
    return path


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        ("127.0.0.1:9090", "127.0.0.1:9090"),
        ("127.0.0.1:9090", "localhost:9090"),
        ("0.0.0.0:9090", "127.0.0.1:9090"),
        ("[::1]:9090", "localhost:9090"),
        ("192.168.1.2:9090", "192.168.1.2:9090"),
    ],
)
def test_a_platform_of_this_user_is_entered_by_its_address(token_file, listens, asked):
    find = token_for(asked)
    assert find() == ""
    with known(listens, token_file):
        assert find() == "the-token"
        assert token_for("127.0.0.1:9091")() == ""
        assert state_folder().stat().st_mode & 0o777 == 0o700
    assert find() == ""


def test_the_token_of_a_platform_that_was_killed_is_shown_to_nobody(token_file):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "127.0.0.1:9090", str(token_file)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "there\n"
        assert token_for("127.0.0.1:9090")() == "the-token"
        holder.kill()
        holder.wait()
        assert list(state_folder().iterdir())
        assert token_for("127.0.0.1:9090")() == ""


def test_what_others_may_write_is_not_believed(token_file):
    with known("127.0.0.1:9090", token_file):
        state_folder().chmod(0o777)
        assert token_for("127.0.0.1:9090")() == ""


def test_what_is_given_goes_before_what_the_environment_says(token_file, tmp_path, monkeypatch):
    (tmp_path / "other").write_text("first-line\nsecond-line\n")
    with known("127.0.0.1:9090", token_file):
        monkeypatch.setenv("EVALMESH_TOKEN_FILE", str(tmp_path / "other"))
        assert token_for("127.0.0.1:9090")() == "first-line"
        monkeypatch.setenv("EVALMESH_TOKEN", "of-the-environment")
        assert token_for("127.0.0.1:9090")() == "of-the-environment"
        assert token_for("127.0.0.1:9090", "given")() == "given"
        assert token_for("127.0.0.1:9090", "")() == ""


def test_a_token_file_that_is_empty_is_refused(tmp_path, monkeypatch):
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("EVALMESH_TOKEN_FILE", str(tmp_path / "empty"))
    with pytest.raises(InvalidInput, match="is empty"):
        token_for("127.0.0.1:9090")
