"""What backends may take a path for besides itself, and what they run for it.

They fold letters, drop a slash at the end, serve a page under a name with an ending, or give its
data at an address of their own.  Law: what is found here is compared with what routes protect, and
nothing of it is ever sent (docs/decisions/0015-other-spellings.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

# In the joined segments of a path: a script with something behind it, or that of all others.
_SCRIPT = re.compile("(?<![^\x00])(?:[^\x00]*\\.php\x00|index\\.php\\Z)()")
_SCRIPT_OF_OTHERS = re.compile(
    "\\.(?:cf[cm]|[fs]?cgi|[pw]sgi|pl|py|rb|sh|tcl|lua|exe|dll|php[3-8]|pht(?:ml)?|phar|aspx?)\\Z"
)
_INDEX_BEFORE = re.compile("(?<![^\x00])index\\.php(?=[^\x00])()")
_INDEX = re.compile(
    "(?<![^\x00])(?:index(?:\\.(?:x?html?|shtml|jsp|aspx?|cfm|f?cgi|pl|py|rb|lua|txt))?"
    "|default\\.(?:html?|aspx?))\\Z()"
)
_SCRIPT_NAME = re.compile(
    "\\.(?:php[3-8s]?|pht|phtml|phar|[fs]?cgi|[pw]sgi|pl|py|rb|sh|tcl|lua|exe|dll|bat|cmd|shtml|stm"
    "|as[ap]|as[hmp]x|axd|svc|cf[cm]|jspx?|jsf|do|action|nsf|xq[ly]?)\\Z"
)
# Whatever stands in such a folder is run, and has what stands behind it (RFC 3875 section 4.1.5).
_PROGRAMS_FOLDER = re.compile("(?:(?:f|s|fast)?cgi-(?:bin|exe|local|perl|sys|win)|htbin)\\Z")
_PAGE_DATA = re.compile(
    "(?<![^\x00])_next\x00data\x00[^\x00]+\x00(?:index|(.+))\\.json\\Z", re.DOTALL
)
_LANGUAGE = "[a-z]{2,3}(?:[_-][a-z0-9]{2,8})*"
_PAGE_DATA_IN_LANGUAGE = re.compile(
    f"(?<![^\x00])_next\x00data\x00[^\x00]+\x00{_LANGUAGE}(?:\x00(.+))?\\.json\\Z", re.DOTALL
)
_PAGE_DATA_OF_GATSBY = re.compile(
    "(?<![^\x00])page-data\x00(?:index|(.+))\x00page-data\\.json\\Z", re.DOTALL
)
_PAGE_DATA_OF_NUXT = re.compile(
    "(?<![^\x00])_nuxt\x00static\x00[^\x00]+\x00(?:(.*)\x00)?(?:payload|state)\\.js\\Z", re.DOTALL
)
_PAGE_DATA_OF_WAKU = re.compile("(?<![^\x00])rsc\x00r\x00(?:_root|(.*))\\.txt\\Z", re.DOTALL)
_PAGE_DATA_OF_ANALOG = re.compile("(?<![^\x00])(?:api\x00)?_analog\x00pages\x00()")
_PAGE_DATA_OF_EXPO = re.compile("(?<![^\x00])_expo\x00loaders\x00(.*?)(?:\\.js)?\\Z", re.DOTALL)
# With any ending or none: what may fail would look on from each place where one could begin.
_SOURCE_OF_SPHINX = re.compile(
    "(?<![^\x00])_sources\x00(.*?)(?:\\.[^.\x00]+)?(?:\\.txt)?\\Z", re.DOTALL
)
# Of an export of Next.js, and of what it keeps of a page itself.
_PARTS_BELOW = re.compile("(?<![^\x00])__next\\..*txt\\Z()", re.DOTALL)
_PARTS_BESIDE = re.compile("\\.segments\x00.*\\.segment\\.rsc\\Z()", re.DOTALL)
# Nuxt takes any sign for the last dot, `?` too: what follows then is no longer in the path.
_DATA_BELOW = re.compile(
    "(?:__data\\.json|_payload(?:\\.[a-z0-9]+)?(?:.js(?:on)?)?|q-data\\.json|routeinfo\\.json"
    "|index\\.pagecontext\\.json|_(?:root)?\\.(?:rsc|manifest))\\Z",
    re.DOTALL,
)
_DATA_BESIDE = re.compile("(?:(?:(?<![^\x00])_(?:root)?)?\\.data|__data\\.json)\\Z()")
# Of ASP.NET: a session, a ticket or both, as it keeps them in paths.
_COOKIELESS = re.compile("(?<![^\x00])(?:\\((?:[a-z]\\([^()\x00]+\\))+\\)\x00)+()")
_OTHERWISE = (
    (".php", "", _SCRIPT),
    ("index.php", "", _INDEX_BEFORE),
    ("index", "", _INDEX),
    ("default.", "", _INDEX),
    ("_next\x00data\x00", ".json", _PAGE_DATA),
    ("_next\x00data\x00", ".json", _PAGE_DATA_IN_LANGUAGE),
    ("page-data\x00", "\x00page-data.json", _PAGE_DATA_OF_GATSBY),
    ("_nuxt\x00static\x00", "\x00payload.js", _PAGE_DATA_OF_NUXT),
    ("_nuxt\x00static\x00", "\x00state.js", _PAGE_DATA_OF_NUXT),
    ("rsc\x00r\x00", ".txt", _PAGE_DATA_OF_WAKU),
    ("_analog\x00pages\x00", "", _PAGE_DATA_OF_ANALOG),
    ("_expo\x00loaders\x00", "", _PAGE_DATA_OF_EXPO),
    ("_sources\x00", "", _SOURCE_OF_SPHINX),
    ("__next.", ".txt", _PARTS_BELOW),
    (".segments\x00", ".segment.rsc", _PARTS_BESIDE),
    (".html__data.json", ".json", _DATA_BESIDE),
    (".data", ".data", _DATA_BESIDE),
    ("))\x00", "", _COOKIELESS),
)
"""What stands in such a path, how it ends, and what finds it: what is left with its group is the
other one.  Without that end an expression would look on from each place where one could begin."""
# In every path that is written otherwise than it could be.
_HAS_OTHERS = re.compile("[.(?#]|index|_(?:payload|(?:analog|expo|sources)\x00)| (?:\\Z|\x00)")
_AFTER_PATHS = "?#"
"""Begin what is no path.  Where a path that was decoded is read as a target once more, as what
nginx sends by `proxy_pass http://app$uri`, the path ends there."""
_PAGES = frozenset(
    ("htm", "html", "xhtml", "shtml", "asp", "aspx", "cgi", "cfm", "fcgi", "jsp", "jspx", "lua",
     "phar", "php", "php3", "php4", "php5", "php7", "php8", "phtml", "pl", "py", "rb")
)  # fmt: skip
_ASSETS = frozenset(
    ("css", "gif", "ico", "jpeg", "jpg", "js", "map", "mjs", "mp3", "mp4", "otf", "png", "svg",
     "ttf", "webm", "webp", "woff", "woff2")
)  # fmt: skip
"""What pages load: `/7.png` seldom is the page `/{id:int}`, and `/app.js` may be `/app`."""
_LONGEST_FOLD = 4
"""A letter that becomes more (U+FDFA: 18) stays as it is: a path has room for hundreds."""
MOST_SPELLINGS = 16
"""Of one path; each is compared with all routes, and whoever sends it need not be anybody."""
MOST_LETTERS = 16_384
"""Of all that is made of one path: a long one has room for few other spellings."""
_INDEXES = ("default", "index")
_ROUNDS = 3
"""How many of these one path may be at once (`/index.php/(S(x))/admin.html`)."""


@dataclass(slots=True)
class Spellings:
    """Paths, folded; the first of `paths` is the one that was asked about, the others are the same
    to some backend.  None at all where they are too many to be compared."""

    paths: list[tuple[str, ...]]
    scripts: list[tuple[str, ...]]
    """What a server runs for one of them, where a script stands in it, or a folder of programs:
    that script, whatever is behind it (Apache, IIS), also by the name that it has without its
    ending, of one named `index` its folder, and what is behind one that is not of PHP.  And what
    stands before each dot of a name, which an application with formats may serve whatever follows:
    Rails reads them before it decodes (`/admin.a%2E1`), and Spring before 5.3 `/admin.*`.  All this
    is compared with routes that name their end by letters alone."""
    letters: int = field(compare=False)
    """Of all that was made of the first to find the others."""

    def __init__(
        self, paths: list[tuple[str, ...]], scripts: list[tuple[str, ...]], letters: int = 0
    ) -> None:
        self.paths = paths
        self.scripts = scripts
        self.letters = letters


def spellings_of(
    segments: tuple[str, ...],
    most_dots: int = 0,
    most_segments: int = 0,
    most_places: int = 0,
    *,
    names_its_end: bool = False,
    most_letters: int = MOST_LETTERS,
) -> Spellings:
    """What some backend takes this path for.

    A PHP application serves `/index.php/admin` as `/admin`, and `/index.php` as `/` (PATH_INFO of
    RFC 3875 section 4.1.5); Symfony takes `/index.phpadmin` for it too.  What the page `/admin`
    shows Next.js gives as `/_next/data/BUILD/admin.json` too, SvelteKit as `/admin/__data.json`,
    Nuxt as `/admin/_payload.json`, Gatsby as `/page-data/admin/page-data.json`, Qwik as
    `/admin/q-data.json`, React Router as `/admin.data`, and an export of Next.js as
    `/admin/__next._full.txt`.  ASP.NET, CakePHP and others serve
    `/admin/index` as `/admin`, and a server of files `/admin/index.html`.  Rails takes
    `/admin.json` for `/admin`, with whatever ending, and servers of files that leave the ending
    out `/admin.html`; below IIS every application of ASP.NET takes `/(S(x))/admin` for it.  What
    reads a path anew that was decoded takes `/admin%3Fx` and `/admin%23x` for it.  And a server
    that leaves endings out runs `/reports.php/7` for `/reports/7`.

    `names_its_end`: what asks is a route that names the last segment by letters; its ending is
    meant.  `most_dots`: as many has the last name of a route at most, so that what stands before a
    later dot is none of them.  `most_segments`: as many has the longest route that names its end,
    so that what is run at a deeper place is none of them.  `most_places`: as many segments has the
    longest of all routes.
    """
    paths, letters = _spelled(folded_path(segments), names_its_end, min(most_letters, MOST_LETTERS))
    endings = 0 if names_its_end else most_dots + 1
    deepest = max(most_segments + 2, most_places)
    scripts: list[str] = []
    unended: list[tuple[str, ...]] = []
    for path in paths:
        text = "\x00".join(path)
        runs = ("." in text or "cgi-" in text or "htbin" in text) and any(
            map(_may_run, path[: min(deepest, len(path) - 1)])
        )
        scripts += _run_instead(path, text, endings, most_segments if runs else -1)
        for at in range(min(most_places, len(path) - 1)) if runs else ():
            if _is_script(path[at]):
                unended += [(*path[:at], stem, *path[at + 1 :]) for stem in _stems(path[at])]
                letters += 2 * len(text)
    paths += [one for one in dict.fromkeys(unended) if one not in paths] if unended else ()
    letters += sum(map(len, scripts))
    return Spellings(paths, [tuple(one.split("\x00")) for one in dict.fromkeys(scripts)], letters)


def folded_letters(text: str) -> str:
    """What a backend makes of a text that takes letters in any case, and folds them (NFKC) or
    keeps an accent apart from its letter, as some file systems do.

    Letter by letter, as `paths.folds_into_another`.
    """
    if not text.isascii():
        apart = ((letter, unicodedata.normalize("NFKD", letter)) for letter in set(text))
        changed = {ord(one): other for one, other in apart if len(other) <= _LONGEST_FOLD}
        # `İ`, its two letters and `ı` are an `i` to who ignores case letter by letter (Go, Java,
        # regular expressions of Python), though Unicode folds none of them into it.
        return text.translate(changed).casefold().replace("i\u0307", "i").replace("ı", "i")
    return text.casefold()


def folded_path(segments: tuple[str, ...]) -> tuple[str, ...]:
    """What a backend that folds letters and drops a final slash makes of a path."""
    text = "\x00".join(segments)  # at once: a path has room for thousands, and holds no NUL
    folded = folded_letters(text)
    return _without_slash(segments if folded == text else tuple(folded.split("\x00")))


def _without_slash(path: tuple[str, ...]) -> tuple[str, ...]:
    return path[:-1] if path and not path[-1] else path


def is_index(name: str) -> bool:
    """Whether a segment names the page of a folder."""
    return _INDEX.match(folded_letters(name)) is not None


def page_name(name: str) -> str | None:
    """The name, folded, under which some servers give a page whose own name has an ending; empty
    for the page of a folder (or, in ASP.NET and CakePHP, its action `index`), and None where a
    segment names no page."""
    folded = folded_letters(name)
    if folded == "index.php" or is_index(folded):
        return ""
    stem, _, ending = folded.rpartition(".")
    return stem if stem and ending in _PAGES else None


def is_asset(name: str) -> bool:
    """Whether a segment, folded, ends as what pages load."""
    return name.rpartition(".")[2] in _ASSETS


def asked_beside(asked: Spellings, texts: tuple[str, ...], *, named: bool) -> Spellings:
    """What is left to be compared of what is asked of a route of these texts, which names the end
    of its path or does not.

    A route that names all of a path by letters means that path.  One that names a script has what
    stands behind it: what is run for less, or what the script is left out of, is none of another
    route.  So it is with the page of a folder.  And one that has any name in a place below another
    has it there, too, where it ends like a script (`/{org}/{repo}/settings`).
    """
    own, path = folded_path(texts), asked.paths[0]
    if named and (page_name(texts[-1]) == "" or ("*" not in texts and own == path)):
        return Spellings([path], [])
    if len(asked.paths) == 1 and not asked.scripts:
        return asked  # nearly always
    paths, scripts = asked.paths[1:], asked.scripts
    if "*" in texts[1:-1]:
        left: set[tuple[str, ...]] = set()
        for at in range(1, min(len(texts), len(path)) - 1):
            if texts[at] == "*":
                left.update(_without_script(asked.paths, path, at))
        paths = [one for one in paths if one not in left]
        scripts = [one for one in scripts if one not in left]
    run = _run_in(own[:-1] if named else own)
    if run:
        paths = [one for one in paths if run.issubset(one)]
        scripts = [one for one in scripts if run.issubset(one[:-1])]
    return Spellings([path, *paths], scripts)


def _without_script(
    paths: list[tuple[str, ...]], path: tuple[str, ...], at: int
) -> Iterator[tuple[str, ...]]:
    """What there would be if the name in this place of a path were a script, whatever else is
    made of what stands behind it."""
    before, name = path[:at], path[at]
    if _SCRIPT_NAME.search(name) and name.partition(".")[0] in _INDEXES:
        yield before
    for stem in _stems(name):
        yield (*before, stem)
    for one in paths:
        behind = one[at + 1 :]
        if behind and one[: at + 1] == path[: at + 1]:
            if name != behind[0]:
                yield before + behind
            for stem in _stems(name):
                yield (*before, stem, *behind)


def _run_in(folded: tuple[str, ...]) -> set[str]:
    """The segments by which a route names what some server runs."""
    found, in_folder = set(), False
    for name in folded:
        if _is_script(name) or (in_folder and name != "*"):
            found.add(name)
        in_folder = in_folder or _PROGRAMS_FOLDER.match(name) is not None
    return found


def _spelled(
    folded: tuple[str, ...], names_its_end: bool, most_letters: int
) -> tuple[list[tuple[str, ...]], int]:
    """Itself, and what up to three steps of backends make of it; none at all of too many.  And the
    letters of all that was made."""
    text = "\x00".join(folded)
    if not _HAS_OTHERS.search(text):
        return [folded], 0
    spellings, newest, letters = {text: folded}, [text], 0
    for _ in range(_ROUNDS):
        fresh: dict[str, tuple[str, ...]] = {}
        for before in newest:
            for other in _spelled_once(before, names_its_end):
                letters += len(other)
                if letters > most_letters:
                    return [], letters
                # Letters that were folded are not folded again: they stay as they are.
                path = _without_slash(tuple(other.split("\x00")))
                fresh["\x00".join(path)] = path
        newest = [text for text in fresh if text not in spellings]
        spellings.update(fresh)
        if len(spellings) > MOST_SPELLINGS:
            return [], letters
    return list(spellings.values()), letters


def _spelled_once(text: str, names_its_end: bool) -> list[str]:
    """What one step of a backend makes of the joined segments of a path."""
    others = []
    for sign, end, pattern in _OTHERWISE:
        if sign in text and text.endswith(end):
            other, found = pattern.subn(r"\1", text, 1)
            others += [other] * found
    folder, _, name = text.rpartition("\x00")
    if _DATA_BELOW.match(name):
        others.append(folder)
    unnamed = folder if names_its_end else text
    others += [text.partition(sign)[0] for sign in _AFTER_PATHS if sign in unnamed]
    if names_its_end:
        return others
    stem, _, ending = name.rpartition(".")
    if stem and ending[:1].isalpha() and ending not in _ASSETS:
        others.append(text[: -len(ending) - 1])
    if text.endswith((".", " ")) or ".\x00" in text or " \x00" in text:  # Windows opens it without
        others.append("\x00".join(one.rstrip(". ") for one in text.split("\x00")))
    return others


def _run_instead(folded: tuple[str, ...], text: str, endings: int, most_segments: int) -> list[str]:
    found: list[str] = []
    if most_segments >= 0:
        found = _scripts_in(folded[: most_segments + 2])
        found += _behind_scripts(folded, most_segments)
    dot = text.rfind("\x00") + 1  # a name that begins with a dot has no ending there
    for _ in range(endings):
        dot = text.find(".", dot + 1)
        if dot < 0:
            break
        found.append(text[:dot])
    return [one for one in found if one != text]


def _is_script(name: str) -> bool:
    dot = name.rfind(".")
    return dot >= 0 and _SCRIPT_NAME.match(name, dot) is not None


def _may_run(name: str) -> bool:
    """Whether it is a script, or a folder of them."""
    return _is_script(name) or _PROGRAMS_FOLDER.match(name) is not None


def _scripts_in(folded: tuple[str, ...]) -> list[str]:
    """Each script with something behind it.  Which of them is a folder, no path tells."""
    found, in_folder = [], False
    for at, name in enumerate(folded[:-1]):
        if in_folder or _is_script(name):
            found.append("\x00".join(folded[: at + 1]))
            found += ["\x00".join((*folded[:at], stem)) for stem in _stems(name)]
            if at and name.partition(".")[0] in _INDEXES:
                found.append("\x00".join(folded[:at]))
        in_folder = in_folder or _PROGRAMS_FOLDER.match(name) is not None
    return found


def _stems(name: str) -> list[str]:
    """By what names a server that leaves endings out runs a script: without its ending, and
    without all of them (`admin.inc.php`)."""
    dots = {name.rfind("."), name.find(".", 1)}
    return [name[:dot] for dot in sorted(dots) if dot > 0]


def _behind_scripts(folded: tuple[str, ...], most_segments: int) -> list[str]:
    """What is left without one script, and without a folder of programs to each that may be one,
    but for what is longer than all that is compared with it."""
    count, found = len(folded), []
    if count <= most_segments + 1:
        for at, name in enumerate(folded[:-1]):
            if _SCRIPT_OF_OTHERS.search(name, max(name.rfind("."), 0)):
                found.append(folded[:at] + folded[at + 1 :])
    for folder, name in enumerate(folded[:most_segments]):
        if _PROGRAMS_FOLDER.match(name):
            first = max(folder + 1, folder + count - 1 - most_segments)
            found += [folded[:folder] + folded[at + 1 :] for at in range(first, count - 1)]
            break
    return ["\x00".join(one) for one in found]
