"""Hubs over HTTP: what is brought is what the hub announced, once, whole, and without a key going astray."""

import asyncio
from dataclasses import replace

import pytest
from tests.kit.hub import LARGE_BYTES, running

from evalmesh.adapters.hubs import routes
from evalmesh.adapters.hubs.http import HubHttp
from evalmesh.adapters.hubs.hubs import HubClient, HubRules
from evalmesh.adapters.hubs.opening import model_folder
from evalmesh.adapters.hubs.settings import hub_settings
from evalmesh.adapters.hubs.store import SharedFiles
from evalmesh.domain.connection import Egress
from evalmesh.domain.errors import Conflict, FailedPrecondition, InvalidInput, NotFound, PermissionDenied, Unavailable
from evalmesh.domain.hub import Repo

LARGE = bytes(range(256)) * 4000
FILES = {"README.md": b"# a card\n", "main/test-00000-of-00001.jsonl": LARGE, "config.json": b"{}"}
REPO = Repo("huggingface", "org/sums")
SCOPE = Repo("modelscope", "org/sums")
both = pytest.mark.parametrize("repo", [REPO, SCOPE], ids=["huggingface", "modelscope"])


@pytest.fixture
async def hub():
    async with running() as started:
        started.add("org/sums", FILES)
        yield started


class Naps:
    """Waits that are only written down."""

    def __init__(self):
        self.taken = []

    async def __call__(self, seconds):
        self.taken.append(seconds)


@pytest.fixture
def client(hub, tmp_path):
    def make(rules=None, **environ):
        naps = Naps()
        env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), **hub.environment(), **environ}
        made = HubClient(hub_settings(env), rules, sleep=naps)
        made.naps = naps
        return made

    return make


async def bring(client, repo=REPO, revision="", note=None):
    found = await client.look(repo, revision)
    folder = await client.bring(found, found.files, note)
    return found, {one.path: (folder / one.path).read_bytes() for one in found.files}


@both
async def test_all_files_come_as_they_are_at_the_commit(hub, client, repo):
    news = []
    found, got = await bring(client(), repo, note=news.append)
    assert got == FILES
    assert found.commit == hub.repos["org/sums"].branches["main"]
    total = sum(map(len, FILES.values()))
    assert (news[-1].done_bytes, news[-1].total_bytes) == (total, total)
    assert (news[-1].done_files, news[-1].total_files) == (3, 3)
    assert str(news[-1]) == "1.0 of 1.0 MB, 3 of 3 files"


@both
async def test_what_is_there_is_not_asked_for_again(hub, client, repo):
    found, _ = await bring(client(), repo)
    hub.asked.clear()
    again, got = await bring(client(), repo, found.commit)
    assert (again.commit, got) == (found.commit, FILES)
    assert hub.asked == []


@both
async def test_a_broken_download_goes_on_where_it_stopped(hub, client, repo):
    hub.cut_after = [1000, 200_000]
    _, got = await bring(client(), repo)
    assert got == FILES
    ranges = [headers.get("Range") for where, _, headers in hub.asked if where == "storage"]
    assert ranges[0] is None
    starts = [int(one.removeprefix("bytes=").removesuffix("-")) for one in ranges[1:] if one]
    assert starts == sorted(starts)
    assert starts
    assert starts[-1] > 1000


async def test_a_download_of_an_earlier_process_goes_on(hub, client):
    first = client()
    found = await first.look(REPO, "")
    large = found.file("main/test-00000-of-00001.jsonl")
    part = first.cache.part(found, large)
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE[:5000])
    _, got = await bring(client())
    assert got == FILES
    assert [headers.get("Range") for where, _, headers in hub.asked if where == "storage"] == ["bytes=5000-"]


@pytest.mark.parametrize("left", [b"x" * 5000, b"x" * len(LARGE), b"x" * (len(LARGE) + 1)])
async def test_what_is_no_beginning_of_the_file_is_thrown_away(client, left):
    first = client()
    found = await first.look(REPO, "")
    part = first.cache.part(found, found.file("main/test-00000-of-00001.jsonl"))
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    assert (await bring(client()))[1] == FILES


async def test_storage_that_knows_no_ranges_gives_the_whole_file_again(hub, client):
    hub.ranges, hub.cut_after = False, [1000]
    assert (await bring(client()))[1] == FILES


@pytest.mark.parametrize("path", ["main/test-00000-of-00001.jsonl"])
async def test_other_bytes_than_announced_are_refused(hub, client, path):
    hub.spoilt.add(path)
    made = client()
    with pytest.raises(Conflict, match=path):
        await bring(made)
    found = await made.look(REPO, "")
    assert not (made.cache.snapshot_dir(REPO, found.commit) / path).exists()


async def test_a_small_file_is_held_against_the_sum_that_git_has_of_it(hub, client):
    made = client()
    found = await made.look(REPO, "")
    small = found.file("config.json")
    other = replace(found, files=(replace(small, git_oid="0" * 40),))
    with pytest.raises(Conflict, match=r"config\.json"):
        await made.bring(other, other.files)


@both
async def test_a_branch_that_moves_changes_nothing_that_was_looked_up(hub, client, repo):
    made = client()
    found = await made.look(repo, "")
    hub.add("org/sums", {**FILES, "main/test-00000-of-00001.jsonl": LARGE[::-1]})
    folder = await made.bring(found, found.files)
    assert (folder / "main/test-00000-of-00001.jsonl").read_bytes() == LARGE
    again = await made.look(repo, "")
    assert again.commit != found.commit
    assert (await made.bring(again, again.files)) != folder


async def test_without_a_commit_the_sums_tell_that_a_branch_has_moved(hub, client):
    hub.tells_commit = False
    made = client()
    found = await made.look(SCOPE, "")
    assert found.commit.startswith("files-")
    hub.add("org/sums", {**FILES, "main/test-00000-of-00001.jsonl": LARGE[::-1]})
    with pytest.raises(Conflict, match="changed"):
        await made.bring(found, found.files)
    fresh, got = await bring(made, SCOPE)
    assert fresh.commit != found.commit
    assert got["main/test-00000-of-00001.jsonl"] == LARGE[::-1]


async def test_a_busy_hub_is_asked_again_when_it_says(hub, client):
    hub.busy = [(429, {"Retry-After": "7"}), (429, {"RateLimit": '"api";r=0;t=55'}), (503, {})]
    made = client()
    assert (await bring(made))[1] == FILES
    assert made.naps.taken[:2] == [7.0, 55.0]
    assert len(made.naps.taken) == 3


async def test_a_hub_that_stays_busy_is_given_up_with_its_own_words(hub, client):
    hub.busy = [(429, {"Retry-After": "4000"})]
    with pytest.raises(Unavailable, match=r"429.*asked again in 4000 s"):
        await bring(client())
    hub.busy = [(502, {})] * 20
    with pytest.raises(Unavailable, match="502"):
        await bring(client())


async def test_storage_that_fails_is_asked_again(hub, client):
    hub.storage_busy = [500, 429]
    assert (await bring(client()))[1] == FILES


@both
async def test_the_token_goes_to_the_hub_and_to_no_storage(hub, client, repo):
    hub.repos["org/sums"].gated, hub.token = True, "hf_secret"
    await bring(client(HF_TOKEN="hf_secret", MODELSCOPE_API_TOKEN="hf_secret"), repo)
    shown = {(where, headers.get("Authorization")) for where, _, headers in hub.asked}
    assert shown == {("hub", "Bearer hf_secret"), ("storage", None)}


async def test_the_key_of_a_connection_goes_before_that_of_the_environment(hub, client):
    hub.repos["org/sums"].gated, hub.token = True, "of-the-connection"
    rules = HubRules(key_of=lambda url: "of-the-connection" if url == hub.url else "")
    assert (await bring(client(rules, HF_TOKEN="other")))[1] == FILES


async def test_gated_data_says_what_to_do(hub, client):
    hub.repos["org/sums"].gated, hub.token = True, "hf_secret"
    with pytest.raises(PermissionDenied, match=r"asked for access.*/datasets/org/sums.*HF_TOKEN"):
        await bring(client())
    with pytest.raises(PermissionDenied, match=r"token of HF_TOKEN") as wrong:
        await bring(client(HF_TOKEN="hf_wrong"))
    assert "hf_wrong" not in str(wrong.value)


@both
async def test_what_is_not_there_names_the_nearest(client, repo):
    with pytest.raises(NotFound, match=r"no revision 'mian'.*Did you mean 'main'"):
        await client().look(repo, "mian")
    with pytest.raises(NotFound, match="There is no dataset org/sumz"):
        await client().look(replace(repo, id="org/sumz"), "")


async def test_a_repository_with_almost_that_name_is_named(hub, client):
    hub.add("other/summary", FILES)
    with pytest.raises(NotFound, match="Did you mean 'other/summary'"):
        await client().look(replace(REPO, id="othr/summary"), "")


@pytest.mark.parametrize("id_", ["../etc", "a/b/c", "org/..", "", "org/na me", "https://h/x"])
async def test_an_id_that_is_none_leads_nowhere(hub, client, id_):
    with pytest.raises(InvalidInput, match="dataset_id"):
        await client().look(replace(REPO, id=id_), "")
    assert hub.asked == []


@pytest.mark.parametrize("revision", ["../x", "a b", "-x", "main?x=1"])
async def test_a_revision_that_is_none_leads_nowhere(hub, client, revision):
    with pytest.raises(InvalidInput, match="revision"):
        await client().look(REPO, revision)
    assert hub.asked == []


async def test_paths_of_a_repository_stay_in_their_folder(hub, client):
    hub.add("org/evil", {"../../escape.jsonl": LARGE, "/etc/x.jsonl": LARGE, "good.jsonl": LARGE})
    found, _ = await bring(client(), Repo("huggingface", "org/evil"))
    assert [one.path for one in found.files] == ["good.jsonl"]


async def test_offline_asks_nobody_and_says_so(hub, client):
    with pytest.raises(FailedPrecondition, match="HF_HUB_OFFLINE is set"):
        await client(HF_HUB_OFFLINE="1").look(REPO, "")
    assert hub.asked == []


async def test_offline_takes_what_a_branch_was_last(hub, client):
    found, _ = await bring(client())
    kept = client(EVALMESH_OFFLINE="1").cache.known(REPO, "")
    assert (kept.commit, {one.path for one in kept.files}) == (found.commit, set(FILES))


async def test_the_cache_of_other_clients_is_used(hub, client, tmp_path):
    commit = hub.repos["org/sums"].branches["main"]
    found = await client().look(REPO, commit)
    base = tmp_path / "cache" / "huggingface" / "hub" / "datasets--org--sums"
    for one in found.files:
        blob = base / "blobs" / one.blob
        link = base / "snapshots" / commit / one.path
        for path in (blob, link):
            path.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(FILES[one.path])
        link.symlink_to(blob)
    hub.asked.clear()
    _, got = await bring(client(), revision=commit)
    assert got == FILES
    assert hub.asked == []


async def test_files_of_the_same_bytes_are_fetched_once(hub, client):
    hub.add("org/twice", {"a/test.jsonl": LARGE, "b/test.jsonl": LARGE, "a/x.json": b"{}", "b/x.json": b"{}"})
    news = []
    _, got = await bring(client(), Repo("huggingface", "org/twice"), note=news.append)
    assert got == hub.repos["org/twice"].commits[hub.repos["org/twice"].branches["main"]]
    assert sum(hub.fetches().values()) == 2
    assert news[-1].done_bytes == news[-1].total_bytes


async def test_two_at_once_download_once(hub, client):
    results = await asyncio.gather(bring(client()), bring(client()))
    assert all(got == FILES for _, got in results)
    assert set(hub.fetches().values()) == {1}


async def test_of_two_machines_with_one_store_one_downloads(hub, opened, tmp_path):
    def machine(name):
        env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / name), **hub.environment()}
        return HubClient(hub_settings(env), shared=SharedFiles(opened.objects, opened.runs.take_lease))

    results = await asyncio.gather(*(bring(machine(name)) for name in ("one", "other")))
    assert all(got == FILES for _, got in results)
    assert set(hub.fetches().values()) == {1}
    hub.asked.clear()
    _, got = await bring(machine("third"), revision=results[0][0].commit)
    assert got == FILES
    assert hub.asked == []


async def test_redirects_to_what_is_out_of_reach_are_not_followed(hub, tmp_path):
    hub.redirect_to = "http://169.254.169.254/latest/meta-data/"
    env = {"HOME": str(tmp_path), **hub.environment()}
    made = HubClient(hub_settings(env), HubRules(restricted=True), sleep=Naps())
    with pytest.raises(PermissionDenied, match="out of reach"):
        await bring(made)


async def test_the_address_of_a_name_is_looked_at_when_it_is_asked(hub):
    access = replace(hub_settings(hub.environment()).hubs["huggingface"])
    async with HubHttp(access, Egress(restricted=True), Naps()) as http:
        with pytest.raises(PermissionDenied, match="out of reach"):
            await routes.look(http, REPO, "main")


async def test_an_endpoint_that_is_no_hub_is_no_puzzle(hub, client):
    hub.repos.clear()
    with pytest.raises(NotFound, match="There is no dataset"):
        await client().look(REPO, "")
    with pytest.raises(Unavailable, match=r"huggingface|Hugging Face"):
        await client(HF_ENDPOINT="http://127.0.0.1:1").look(REPO, "")


async def test_model_weights_come_by_the_same_rules(hub, client, tmp_path, monkeypatch):
    hub.add("org/model", {"model.safetensors": LARGE, "pytorch_model.bin": LARGE, "config.json": b"{}"})
    for name, value in {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    for name in ("EVALMESH_OFFLINE", "HF_HUB_OFFLINE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    folder = await model_folder("org/model", "", "huggingface")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert folder.name == hub.repos["org/model"].branches["main"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert await model_folder("org/model", "", "huggingface") == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert await model_folder("org/model", "", "huggingface") == folder
    assert len(LARGE) > LARGE_BYTES


async def test_a_model_without_weights_that_are_run_here_says_what_it_has(hub, client, tmp_path, monkeypatch):
    hub.add("org/model", {"model.gguf": LARGE, "config.json": b"{}"})
    for name, value in {**hub.environment(), "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(NotFound, match=r"no weights that are run here.*model\.gguf"):
        await model_folder("org/model", "", "huggingface")
