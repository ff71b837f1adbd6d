"""The page `/metrics`: who may read it, and where it cannot be."""

import ssl

import aiohttp
import pytest
from tests.kit.load_trouble import authority

from evalmesh.domain.errors import InvalidInput
from evalmesh.runtime.entrance import Anyone, Tokens, web_encryption
from evalmesh.runtime.settings import RoomSettings
from evalmesh.runtime.telemetry.metrics import REUSED
from evalmesh.runtime.telemetry.page import served_metrics

TOKEN = "a-token-of-sixteen-letters"


async def read(url, token="", **more):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, **more) as answer:
        return answer.status, await answer.text()


async def test_whoever_shows_the_token_reads_it():
    async with served_metrics("127.0.0.1:0", Tokens([TOKEN])) as port:
        REUSED.add(4)
        url = f"http://127.0.0.1:{port}/metrics"
        status, text = await read(url, TOKEN)
        assert (status, 'evalmesh_completions_reused_total{service=""} 4.0' in text) == (200, True)
        for wrong in ("", "another"):
            status, text = await read(url, wrong)
            assert (status, "evalmesh_completions" in text) == (401, False)
        assert (await read(f"http://127.0.0.1:{port}/", TOKEN))[0] == 404


async def test_where_anybody_may_call_anybody_may_read():
    async with served_metrics("127.0.0.1:0", Anyone()) as port:
        assert (await read(f"http://127.0.0.1:{port}/metrics"))[0] == 200


async def test_a_service_with_a_certificate_shows_it_by_tls(tmp_path):
    signer = authority(tmp_path)
    signer.server("own", "localhost")
    own = str(tmp_path / "own.pem")
    settings = RoomSettings(tls_cert_file=own, tls_key_file=own)
    trusting = ssl.create_default_context(cafile=signer.ca_file)
    async with served_metrics("127.0.0.1:0", Anyone(), web_encryption(settings)) as port:
        assert (await read(f"https://localhost:{port}/metrics", ssl=trusting))[0] == 200


async def test_an_address_that_cannot_be_had_is_named():
    async with served_metrics("127.0.0.1:0", Anyone()) as port:
        for address in (f"127.0.0.1:{port}", "127.0.0.1:none", "127.0.0.1:99999", "nowhere"):
            with pytest.raises(InvalidInput, match=f"EVALMESH_METRICS_ADDRESS: {address!r}"):
                async with served_metrics(address, Anyone()):
                    pass


def test_files_that_are_no_certificate_are_named(tmp_path):
    (tmp_path / "cert").write_text("no certificate")
    settings = RoomSettings(tls_cert_file=str(tmp_path / "cert"), tls_key_file=str(tmp_path / "cert"))
    with pytest.raises(InvalidInput, match="EVALMESH_TLS_CERT_FILE"):
        web_encryption(settings)
    assert web_encryption(RoomSettings()) is None
