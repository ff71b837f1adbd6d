import time

import pytest

from evalmesh.adapters.environment import EnvSecrets, SystemClock
from evalmesh.domain.errors import InvalidInput, NotFound


@pytest.fixture
def secrets_dir(tmp_path):
    (tmp_path / "openai").mkdir()
    (tmp_path / "openai" / "api-key").write_text("sk-right\n")
    (tmp_path / "outside").write_text("sk-outside")
    return tmp_path


def test_keys_come_from_variables_and_files(secrets_dir):
    secrets = EnvSecrets({"MY_KEY": "sk-env", "EVALMESH_SECRETS_DIR": str(secrets_dir)})
    assert secrets.resolve("env:MY_KEY") == "sk-env"
    assert secrets.resolve("secret:openai/api-key") == "sk-right"
    assert secrets.resolve("") == ""


@pytest.mark.parametrize("ref", ["env:NO_SUCH", "env:EMPTY", "secret:openai/none", "secret:none/api-key"])
def test_what_cannot_be_resolved_is_not_found_by_its_reference(secrets_dir, ref):
    secrets = EnvSecrets({"EMPTY": "", "OTHER": "sk-other", "EVALMESH_SECRETS_DIR": str(secrets_dir)})
    with pytest.raises(NotFound, match=ref) as raised:
        secrets.resolve(ref)
    assert "sk-" not in str(raised.value)


def test_binary_and_empty_files_are_not_found_and_not_shown(secrets_dir):
    (secrets_dir / "openai" / "binary").write_bytes(b"sk-\xff\xfe")
    (secrets_dir / "openai" / "empty").write_bytes(b"\n")
    secrets = EnvSecrets({"EVALMESH_SECRETS_DIR": str(secrets_dir)})
    for key in ("binary", "empty"):
        with pytest.raises(NotFound) as raised:
            secrets.resolve(f"secret:openai/{key}")
        assert "sk-" not in str(raised.value)


@pytest.mark.parametrize(
    "ref",
    [
        "sk-pasted",
        "env:sk-pasted",
        "env:",
        "secret:openai",
        "secret:../outside",
        "secret:openai/../outside",
        "secret:./outside",
        "secret:/etc/passwd",
        "secret:openai/..",
        "secret:openai/api-key/x",
        "file:/etc/passwd",
        "secret:openai/api-key\n",
    ],
)
def test_what_is_no_reference_is_refused_and_not_repeated(secrets_dir, ref):
    secrets = EnvSecrets({"EVALMESH_SECRETS_DIR": str(secrets_dir)})
    with pytest.raises(InvalidInput) as raised:
        secrets.resolve(ref)
    assert "sk-pasted" not in str(raised.value)
    assert "passwd" not in str(raised.value)


def test_the_clock_tells_unix_seconds():
    assert abs(SystemClock().now() - time.time()) < 5
