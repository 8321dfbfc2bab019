"""An answer of an authenticator that is sent again, to whichever worker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.authenticator import Authenticator
from tests.contract.answers import Answer
from tests.contract.running import Running, started

pytestmark = pytest.mark.slow

PASSKEYS, SIGN_IN = "/auth/factors/passkeys", "/auth/login/passkey"
TIMES = 24


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with started(tmp_path_factory.mktemp("replay") / "g", "--workers", "2") as gateway:
        yield gateway


def test_of_one_assertion_sent_to_two_workers_at_once_one_counts(running: Running) -> None:
    """The authenticator counts nothing: only the challenge tells the first from the others."""
    authenticator = Authenticator(f"http://localhost:{running.port}", sign_count=None)
    token = running.sign_in("ada@example.com")["access_token"]
    asked = running.call("POST", f"{PASSKEYS}/options", json_body={}, token=token).json
    added = running.call(
        "POST",
        PASSKEYS,
        json_body={
            "challenge_token": asked["challenge_token"],
            "credential": authenticator.create(asked["public_key"]),
        },
        token=token,
    )
    assert added.status == 200, added
    for _ in range(3):
        options = running.call("POST", f"{SIGN_IN}/options", json_body={}).json
        body = {
            "challenge_token": options["challenge_token"],
            "credential": authenticator.get(options["public_key"]),
        }

        def send(_: int, body: dict[str, object] = body) -> Answer:
            return running.call("POST", SIGN_IN, json_body=body)

        with ThreadPoolExecutor(TIMES) as senders:
            answers = list(senders.map(send, range(TIMES)))
        statuses = [answer.status for answer in answers]
        assert statuses.count(200) == 1
        assert statuses.count(400) == TIMES - 1
