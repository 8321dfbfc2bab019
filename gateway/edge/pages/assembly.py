"""The pages, put together over the endpoints on which they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader, StrictUndefined

from gateway.access.routing.csrf import AllowedOrigins
from gateway.access.routing.own_paths import OwnPaths
from gateway.edge.endpoints.endpoint import Endpoints
from gateway.edge.endpoints.rate_limits import EndpointLimits
from gateway.edge.pages.account_page import AccountPage
from gateway.edge.pages.assets import STYLE, Assets, shipped_files
from gateway.edge.pages.factor_pages import FactorPages
from gateway.edge.pages.forms import PageDependencies
from gateway.edge.pages.mail_link_pages import MailLinkPages
from gateway.edge.pages.overrides import PageOverrides
from gateway.edge.pages.provider_pages import ProviderPages
from gateway.edge.pages.refusals import RefusalPage
from gateway.edge.pages.registration_page import RegistrationPage
from gateway.edge.pages.renderer import PageRenderer
from gateway.edge.pages.shipped_texts import shipped_texts
from gateway.edge.pages.sign_in_page import SignInPage
from gateway.edge.pages.texts import Catalogue
from gateway.edge.pages.visits import Visits
from gateway.identity.accounts.registration_rules import RegistrationRules
from gateway.identity.factors.relying_party import relying_party
from gateway.identity.sign_in.return_targets import ReturnTargets
from gateway.model import Call


@dataclass(frozen=True, slots=True)
class PagesOptions:
    public_url: str
    """An origin (RFC 6454) in its shortest form."""
    registration_rules: RegistrationRules = field(default_factory=RegistrationRules)
    password_min_length: int = 8
    own_paths: OwnPaths = field(default_factory=OwnPaths)
    overrides: PageOverrides = field(default_factory=PageOverrides)
    """What the operator's folder has."""


@dataclass(frozen=True, slots=True)
class Pages:
    endpoints: Endpoints
    refusal_page: RefusalPage


def build_pages(
    options: PagesOptions,
    endpoints: Endpoints,
    origins: Callable[[Call], AllowedOrigins],
    limits: EndpointLimits,
    return_targets: ReturnTargets,
) -> Pages:
    """`endpoints` are those of `/auth`; `origins` gives those whose pages may call them."""
    party, shows = relying_party(options.public_url), _shows(options)
    dependencies = PageDependencies(
        visits=Visits(endpoints, origins, limits, options.own_paths),
        renderer=shows.renderer,
        catalogue=shows.catalogue,
        return_targets=return_targets,
        registration_rules=options.registration_rules,
        password_min_length=options.password_min_length,
        passkey_host=None if party is None else party.id,
    )
    factor_pages = FactorPages(dependencies)
    return Pages(
        {
            **SignInPage(dependencies, factor_pages).endpoints(),
            **factor_pages.endpoints(),
            **AccountPage(dependencies).endpoints(),
            **ProviderPages(dependencies, factor_pages, endpoints).endpoints(),
            **RegistrationPage(dependencies).endpoints(),
            **MailLinkPages(dependencies).endpoints(),
            **shows.assets.endpoints(),
        },
        RefusalPage(shows.renderer, shows.catalogue, options.own_paths),
    )


def build_refusal_page(options: PagesOptions) -> RefusalPage:
    """For as long as there are no endpoints yet."""
    shows = _shows(options)
    return RefusalPage(shows.renderer, shows.catalogue, options.own_paths)


@dataclass(frozen=True, slots=True)
class _Shows:
    """What shows a page, whatever stands behind it."""

    catalogue: Catalogue
    assets: Assets
    renderer: PageRenderer


def _shows(options: PagesOptions) -> _Shows:
    overrides = options.overrides
    catalogue = Catalogue(_merged(shipped_texts(), overrides.texts))
    assets = Assets(_files(overrides))
    environment = Environment(
        loader=ChoiceLoader([DictLoader(overrides.templates), PackageLoader("gateway.edge.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # A package that is replaced under a running worker must not bring newer templates to it.
        auto_reload=False,
    )
    renderer = PageRenderer(
        environment,
        catalogue,
        assets,
        options.own_paths,
        site=overrides.theme.name or options.public_url.partition("://")[2],
        https=options.public_url.startswith("https:"),
    )
    return _Shows(catalogue, assets, renderer)


def _merged(
    shipped: Mapping[str, Mapping[str, str]], own: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    """The texts of each language that either has."""
    return {
        language: {**shipped.get(language, {}), **own.get(language, {})}
        for language in dict.fromkeys((*shipped, *own))
    }


def _files(overrides: PageOverrides) -> dict[str, bytes]:
    files = shipped_files()
    files[STYLE] += overrides.theme.style().encode()
    if overrides.logo is not None:
        name, content = overrides.logo
        files[name] = content
    return files
