"""A provider that ends what it began by the name of the person alone: the default of OpenID Connect
Back-Channel Logout, where the client does not ask for `sid`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.providers.sign_in_site import Site, opened, start

pytestmark = pytest.mark.slow

AT_ONCE = 8


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("named-alone")
    with opened(folder, backchannel_logout_session_required=False) as site:
        yield site


def end(site: Site, account: str) -> None:
    """They sign out at the provider, in a browser in which they are signed in there."""
    browser = site.browser()
    browser.sign_in("company", account)
    browser.go(f"{site.provider.issuer}/session/end", account)
    assert site.provider.logouts()[-1] == "gateway: done"


def test_all_that_the_provider_began_for_them_ends_and_they_sign_in_again_at_once(
    site: Site,
) -> None:
    ours, theirs = site.browser(), site.browser()
    ours.sign_in("company", "oda")
    theirs.sign_in("company", "bob")
    end(site, "oda")
    assert [ours.me() for _ in range(8)] == [None] * 8
    assert theirs.me() is not None
    again = site.browser()
    again.sign_in("company", "oda")
    assert [again.me() is not None for _ in range(8)] == [True] * 8


@pytest.mark.parametrize("account", ["ida", "uwe", "eli"])
def test_no_session_begins_by_what_the_provider_gave_before_the_end(
    site: Site, account: str
) -> None:
    """Many come back with their codes in the moment in which they sign out there."""
    home = site.browser()
    home.sign_in("company", account)
    there = home.cookies[site.provider.issuer]
    browsers = [site.browser() for _ in range(AT_ONCE)]
    urls = []
    for browser in browsers:
        browser.cookies[site.provider.issuer] = dict(there)
        urls.append(start(site, browser, account=account))
    with ThreadPoolExecutor(AT_ONCE + 1) as pool:
        ended = pool.submit(home.go, f"{site.provider.issuer}/session/end", account)
        for browser, url in zip(browsers, urls, strict=True):
            pool.submit(browser.open, url, come_from=site.provider.issuer)
    ended.result()
    assert site.provider.logouts()[-1] == "gateway: done"
    assert [browser.me() for browser in (home, *browsers)] == [None] * (AT_ONCE + 1)
