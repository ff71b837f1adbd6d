"""Paths of a spec lead into the declared folders or nowhere, and what lies elsewhere is not even told apart."""

import os

import pytest

from evalmesh.adapters.datasets import LocalDatasets
from evalmesh.adapters.model_servers import DeclaredServers
from evalmesh.adapters.roots import Roots, folders_of
from evalmesh.domain.errors import EvalmeshError, NotFound, PermissionDenied
from evalmesh.domain.load_test import LoadTarget
from evalmesh.ports.dataset_source import DatasetQuery
from evalmesh.ports.model_servers import destination_of

SETTING = "EVALMESH_DATASET_LOADER_ROOTS"
ROWS = '{"question": "?", "answer": "A"}\n'


@pytest.fixture
def places(tmp_path):
    """A folder that may be read, and one beside it that may not."""
    for name in ("own", "other", "own-too"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl").write_text(ROWS)
    return tmp_path


def source(places):
    return LocalDatasets(roots=Roots([str(places / "own")], SETTING))


def query(**more):
    return DatasetQuery(**{"name": "mine", "hub_id": "", "split": "test"} | more)


def refusal(places, **more):
    with pytest.raises(EvalmeshError) as caught:
        source(places).resolve(query(**more))
    return caught.value


def test_what_lies_within_is_read(places):
    own = places / "own"
    for path in (own, own / "test.jsonl", own / "." / "test.jsonl", places / "other" / ".." / "own"):
        assert [one.name for one in source(places).resolve(query(local_path=str(path)))] == ["test.jsonl"]
    (own / "mine").mkdir()
    (own / "mine" / "test.jsonl").write_text(ROWS)
    assert source(places).resolve(query(dataset_dir=str(own))) == (own / "mine" / "test.jsonl",)


def test_links_within_are_followed(places):
    (places / "own" / "blob").write_text(ROWS)
    (places / "own" / "linked.jsonl").symlink_to("blob")
    assert source(places).resolve(query(local_path=str(places / "own" / "linked.jsonl")))


@pytest.mark.parametrize("field", ["local_path", "dataset_dir"])
def test_outside_is_refused_alike_whether_it_is_there_or_not(places, field):
    (places / "own" / "out").symlink_to(places / "other")
    (places / "own" / "nowhere").symlink_to(places / "absent")
    (places / "own" / "loop").symlink_to("loop")
    there = [
        *("other", "other/test.jsonl", "own/../other", "own-too/test.jsonl", "own/out", "own/out/test.jsonl", "."),
    ]
    absent = ["absent", "other/absent.jsonl", "own/../absent", "own-too/absent", "own/nowhere", "own/out/absent.jsonl"]
    said = set()
    for name in (*there, *absent):
        path = os.path.join(places, name)  # noqa: PTH118  (pathlib would tidy it up)
        error = refusal(places, **{field: path})
        assert isinstance(error, PermissionDenied), name
        assert SETTING in error.message
        said.add(error.message.replace(repr(path), "PATH"))
    assert len(said) == 1
    for path in ("/etc/passwd", "/etc/shadow.jsonl", "/var", "~", "~nobody-of-that-name/x", "relative", "a\0b"):
        assert isinstance(refusal(places, **{field: path}), PermissionDenied), path


def test_a_link_to_a_file_outside_is_no_file_of_a_folder_within(places):
    (places / "own" / "mine").mkdir()
    (places / "own" / "mine" / "test.jsonl").symlink_to(places / "other" / "test.jsonl")
    assert isinstance(refusal(places, local_path=str(places / "own" / "mine")), PermissionDenied)
    assert isinstance(refusal(places, dataset_dir=str(places / "own")), PermissionDenied)
    # As a folder, what it links to is not listed either.
    (places / "own" / "yours").symlink_to(places / "other")
    error = refusal(places, name="yours", dataset_dir=str(places / "own"))
    assert isinstance(error, NotFound)
    assert "test.jsonl" not in error.message.replace("test.jsonl-", "")


def test_subsets_of_a_folder_outside_are_not_told(places):
    (places / "other" / "secret_test.jsonl").write_text(ROWS)
    with pytest.raises(PermissionDenied):
        source(places).subsets(query(local_path=str(places / "other")))
    with pytest.raises(PermissionDenied):
        source(places).subsets(query(dataset_dir=str(places / "other")))


def test_a_service_without_folders_names_the_setting():
    nothing = LocalDatasets(roots=Roots([""], SETTING))
    with pytest.raises(PermissionDenied, match=f"{SETTING}; it has none"):
        nothing.resolve(query(local_path="/etc"))
    assert nothing.resolve(query(packaged="starter_mcq.jsonl"))


def test_the_file_of_authorities_is_confined_too(places):
    servers = DeclaredServers(
        (), None, roots=Roots(folders_of(f" {places / 'own'} ,"), "EVALMESH_LOAD_GENERATOR_ROOTS")
    )
    within = LoadTarget("https://h/v1", "m", ca_file=str(places / "own" / "ca.pem"))
    servers.check(destination_of(within))
    for path in (places / "other" / "test.jsonl", places / "absent.pem"):
        with pytest.raises(PermissionDenied, match=r"target\.ca_file"):
            servers.check(destination_of(LoadTarget("https://h/v1", "m", ca_file=str(path))))


def test_media_beside_a_planted_link_are_not_read(tmp_path):
    """The data file leads back into the folder that may be read; what lies beside the link does not."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    (own / "test.jsonl").write_text("{}\n")
    (other / "test.jsonl").symlink_to(own / "test.jsonl")
    (other / "a.png").write_bytes(b"a secret")
    (own / "a.png").write_bytes(b"a picture")
    (own / "planted").symlink_to(other)
    source = LocalDatasets(roots=Roots([str(own)], SETTING))
    assert source.read_media([own / "test.jsonl"], "a.png") == b"a picture"
    with pytest.raises(ValueError, match="lies outside"):
        source.read_media([own / "planted" / "test.jsonl"], "a.png")
