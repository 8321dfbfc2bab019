"""A house whose letters wait in the outbox, to be read."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.identity.accounts.registration import Registrations
from gateway.identity.mail.outbox import MailOutbox, OutboxMail
from gateway.identity.mail.recipients import requester_of
from tests.edge.auth_house import House
from tests.edge.rig import Answer

OTHER = "seven quiet rivers carry boats"
ATTACKERS = "the attacker's 7 words"


@dataclass
class MailHouse:
    house: House
    outbox: MailOutbox

    async def post(self, path: str, **body: object) -> Answer:
        return await self.house.ask("POST", path, body)

    async def as_from(self, address: str, email: str, password: str) -> None:
        """A registration by somebody at that address."""
        password_hash = await self.house.deps.passwords.hash(password)
        assert isinstance(password_hash, str)
        await self.registrations().register(email, password_hash, requester_of(address))

    def registrations(self) -> Registrations:
        return Registrations(self.house.database, self.outbox)

    async def letters(self) -> list[OutboxMail]:
        """Those that wait, newest first."""
        while await self.outbox.drain():
            pass
        return await self.outbox.waiting_mail(100)

    async def links(self) -> list[str]:
        """The tokens of the letters that wait, newest first."""
        texts = [waiting.content.text for waiting in await self.letters()]
        return [token_in(text) for text in texts if "#token=" in text]


def token_in(text: str) -> str:
    return text.split("#token=")[1].split()[0]
