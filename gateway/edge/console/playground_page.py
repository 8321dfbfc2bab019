"""`/admin/playground`: a copy of the configuration, edited and tried; the console writes no file of
the operator's, and offers what was changed as a patch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.access.console import HOME, ConsolePermission
from gateway.edge.console.pages import (
    Acted,
    Attachment,
    ConsoleAction,
    ConsolePage,
    ConsoleRequest,
    NotDone,
    View,
)
from gateway.edge.console.trials import TooLarge, TooManyTrials, Trial, Trials

PLAYGROUND = f"{HOME}/playground"
FORM_BYTES = 2_000_000
SHOWN_BYTES = 200_000
"""Of one file: a longer one is edited in an editor."""
ROWS_MAX = 200
"""Of a list of what came of a trial: the page is made between two calls of the worker."""
_TOO_LARGE = "The configuration is larger than is tried here: use the commands in the shell."
_TOO_MANY = "Another configuration is being tried: wait a moment, and try again."


class PlaygroundPage:
    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def pages(self) -> Sequence[ConsolePage]:
        read = ConsolePermission.READ
        return [
            ConsolePage(
                PLAYGROUND,
                "Policy playground",
                self.show,
                actions={"try": ConsoleAction(self.act, read, fresh=False, writes=False)},
                form_bytes=FORM_BYTES,
            )
        ]

    async def show(self, request: ConsoleRequest) -> View:
        try:
            files = await self._trials.files()
        except (TooLarge, OSError, UnicodeDecodeError) as error:
            sentence = _TOO_LARGE if isinstance(error, TooLarge) else f"cannot be read: {error}"
            return View("playground.html", {**_EMPTY, "unreadable": sentence})
        name = request.form.get("file") or next(iter(files))
        text = request.form.get("text", files.get(name, ""))
        return self._view(files, name, _plain(text), _edits(request))

    async def act(self, request: ConsoleRequest) -> Acted | NotDone:
        """By the button that was pressed: another file is opened, the patch is kept, or all of it
        is tried."""
        wanted = request.query("as")
        if wanted == "patch":
            return await self._patch(request)
        edits = {**_edits(request), **_edited(request)}
        try:
            files = await self._trials.files()
            if wanted == "open":
                name = request.form.get("open", "")
                return Acted((), view=_shown(self._view(files, name, files.get(name, ""), edits)))
            trial = await self._trials.run(edits)
        except TooManyTrials:
            return NotDone(_TOO_MANY, 429)
        except (TooLarge, OSError, UnicodeDecodeError):
            return NotDone(_TOO_LARGE)
        except ValueError as error:
            return NotDone(str(error))
        name = request.form.get("file", "routes.yaml")
        text = edits.get(name, files.get(name, ""))
        return Acted((), view=_shown(self._view(files, name, text, edits, trial)))

    async def _patch(self, request: ConsoleRequest) -> Acted | NotDone:
        edits = {**_edits(request), **_edited(request)}
        try:
            patch = await self._trials.patch(edits)
        except (TooLarge, OSError, UnicodeDecodeError):
            return NotDone(_TOO_LARGE)
        except ValueError as error:
            return NotDone(str(error))
        if not patch:
            return NotDone("Nothing was changed.")
        return Acted(
            (),
            attachment=Attachment("authgate.patch", patch.encode(), "text/x-diff; charset=utf-8"),
        )

    def _view(
        self,
        files: Mapping[str, str],
        name: str,
        text: str,
        edits: Mapping[str, str],
        trial: Trial | None = None,
    ) -> View:
        changed = {other: words for other, words in edits.items() if words != files.get(other)}
        others = {other: words for other, words in changed.items() if other != name}
        return View(
            "playground.html",
            {
                "unreadable": "",
                "names": list(dict.fromkeys((*files, *edits, name))),
                "name": name,
                "text": edits.get(name, text),
                "too_long": len(text) > SHOWN_BYTES,
                "edits": others,
                "trial": trial,
                "changes": () if trial is None else (trial.changes or ())[:ROWS_MAX],
                "rows_max": ROWS_MAX,
            },
        )


_EMPTY: Mapping[str, Any] = {
    "unreadable": "",
    "names": (),
    "name": "",
    "text": "",
    "too_long": False,
    "edits": {},
    "trial": None,
    "changes": (),
    "rows_max": ROWS_MAX,
}


def _shown(view: View) -> Callable[[], Awaitable[View]]:
    async def made() -> View:
        return view

    return made


def _edited(request: ConsoleRequest) -> dict[str, str]:
    """The file that is shown, as it was sent."""
    name = request.form.get("file", "")
    return {name: _plain(request.form.get("text", ""))} if name else {}


def _edits(request: ConsoleRequest) -> dict[str, str]:
    """Those of other files, which the form carries along."""
    return {
        name.removeprefix("edit:"): _plain(text)
        for name, text in request.form.items()
        if name.startswith("edit:")
    }


def _plain(text: str) -> str:
    """Browsers send the ends of lines as CR LF (HTML, form data sets)."""
    return text.replace("\r\n", "\n")
