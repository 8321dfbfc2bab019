"""The names of objects into which Rails puts what a body says (`wrap_parameters`).

Law: whatever its inflector makes of a controller that may serve the path is among them.  A name too
many costs ordinary calls: `payment`, `profile` or `order` may say `id`, `type` or `name` again, and
are refused where a policy reads that of the body.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.access.routing.name_letters import letters_of


def wrappers_of(segments: Sequence[str], kind: str = "") -> frozenset[str]:
    """Those, by their letters, of a path of these literal segments: `note` below `/notes`, and of
    `kind`, what its resource is.

    The last may be a controller, a single resource (`/users/7/profile`) or an action of what stands
    before it (`/notes/search`): a plural ends the search, as what it stands below is another thing.
    """
    names = _named(letters_of(kind))
    for segment in reversed(segments):
        word = letters_of(segment.partition(".")[0])
        names |= _named(word)
        if word.endswith(_PLURAL) and not word.endswith(_IN_DOUBT):
            break
    return frozenset(names)


def _named(word: str) -> set[str]:
    """What may be the name where the path says one of them, or all: `cookie` too has a
    `CookiesController`, of which Rails makes `cooky`."""
    plural = word if word.endswith("s") else f"{word}s"
    return {word} | _singulars(word) | _singulars(plural) if word else set()


def _singulars(plural: str) -> set[str]:
    """What it may be the plural of, and the word itself."""
    if plural.endswith("ss"):
        return {plural}
    found = (plural.removesuffix(end) + one for end, one in _ENDINGS if plural.endswith(end))
    return {plural, *found}


# What a rule of Rails makes of a word, and of its plural, is what one of these does.
_ENDINGS = (
    ("s", ""),
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("xes", "x"),
    ("xes", "xis"),
    ("ses", "s"),
    ("ses", "sis"),
    ("sis", "se"),
    ("ssis", "ss"),
    ("testes", "testis"),
    ("zes", "z"),
    ("zzes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("oes", "o"),
    ("ices", "ex"),
    ("ices", "ix"),
    ("mice", "mouse"),
    ("lice", "louse"),
    ("oxen", "ox"),
    ("a", "um"),
    ("a", "on"),
    ("i", "us"),
    ("people", "person"),
    ("men", "man"),
    ("children", "child"),
    ("ax", "axis"),
    ("fe", "f"),
    ("sery", "series"),
)
_PLURAL = "s", "people", "children"
_IN_DOUBT = "ss", "us", "is"
"""A word of such an end may be one thing (`address`, `status`, `analysis`)."""
