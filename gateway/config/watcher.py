"""The running configuration: watched, compiled whole, swapped in one assignment.

A file that is wrong changes nothing: what runs goes on, each problem is logged with its file
and line, and `stale` is true until the files are good again.  The last good texts rest in the
data folder, so that a worker that starts while the files are wrong has them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import structlog
import watchfiles

from gateway.access.routing.own_paths import OwnPaths
from gateway.access.secret_text import SecretText
from gateway.access.snapshot import Snapshot
from gateway.atomic_file import atomic_file
from gateway.config import upstream_tls
from gateway.config.compile import Sources, compile_snapshot
from gateway.config.files import Files, Signature, read_sources
from gateway.config.secrets import SecretFiles, SecretReading
from gateway.model import ConfigProblem

log = structlog.get_logger(__name__)

SETTLE_S = 0.05
"""Files that did not change for so long are taken as completely written."""
SETTLE_S_MS = int(SETTLE_S * 1000)
LOOK_EVERY_MS = 400
"""How often the files are looked at without an event: a folder that was swapped as a whole (a
symlink on the way) or a file system without events tells the watcher nothing."""
LOGGED_PROBLEMS = 50


class InvalidConfiguration(Exception):
    """There is no configuration to run: the files are wrong and nothing good was kept."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(slots=True)
class LastKnownGood:
    """The texts that last compiled, in one file of the data folder."""

    folder: Path

    def read(self, files: Files) -> Sources | None:
        """What was kept of these very files; None where nothing (readable) was."""
        try:
            record = json.loads(self._file.read_bytes())
            if record["of"] != _identity(files):
                return None
            name, text = record["routes"]
            return Sources(
                routes=(name, text),
                policies=tuple((name, text) for name, text in record["policies"]),
                policies_root=str(files.policies),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, files: Files, sources: Sources) -> None:
        """Replaces what was kept.  A full disk loses only this copy, never what runs."""
        record = {
            "of": _identity(files),
            "routes": sources.routes,
            "policies": sources.policies,
        }
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            # Not durable: what a power cut leaves of it is read as nothing.
            with atomic_file(self._file, durable=False) as file:
                file.write(json.dumps(record).encode())
        except OSError as error:
            log.warning("last-good-not-kept", why=error.strerror)

    @property
    def _file(self) -> Path:
        return self.folder / "configuration.json"


@dataclass(slots=True)
class ConfigWatcher:
    """What runs now.  `snapshot` is replaced, never changed: a request keeps the one it began
    with."""

    files: Files
    kept: LastKnownGood
    own_paths: OwnPaths = field(default_factory=OwnPaths)
    secrets: SecretFiles = field(default_factory=SecretFiles)
    own_issuer: str = ""
    """The `iss` of our own tokens."""
    problems: list[ConfigProblem] = field(default_factory=list)
    """What is wrong with the files now; empty when they are what runs."""
    on_change: list[Callable[[Snapshot], None]] = field(default_factory=list)
    on_refusal: list[Callable[[list[ConfigProblem]], None]] = field(default_factory=list)
    """Told of what is wrong when an edit is refused; not again for the same problems."""
    tls: upstream_tls.TlsContexts = field(default_factory=upstream_tls.TlsContexts)
    """For the connections to upstreams and issuers: what the configuration names is made ready."""
    _snapshot: Snapshot | None = None
    _signature: Signature = ()
    _tls_files: tuple[str, ...] = ()
    """The files that upstreams and issuers name, and their stamps when they were last checked."""
    _tls_stamp: upstream_tls.FileStamp = ()
    _secret_reading: SecretReading | None = None
    """The secrets that were read when the configuration last was."""
    _secret_texts: Mapping[str, SecretText] = field(default_factory=dict)
    """Those that calls are sent with now."""
    _reload_requested: asyncio.Event | None = None

    @property
    def snapshot(self) -> Snapshot:
        if self._snapshot is None:
            raise InvalidConfiguration(self.problems)
        return self._snapshot

    @property
    def stale(self) -> bool:
        return bool(self.problems)

    def load(self) -> None:
        """At a start, before anything is served.

        Takes the files; where they are wrong, the last good ones; where nothing was kept, what
        this process inherited.  Raises InvalidConfiguration when there is none of the three.
        """
        signature = self.files.signature()
        if self._snapshot is not None and not self._changed() and not self.problems:
            return
        self._signature = signature
        sources = read_sources(self.files.routes, self.files.policies)
        built = sources if isinstance(sources, list) else self._checked(sources)
        if isinstance(built, Snapshot):
            assert isinstance(sources, Sources)
            self._take(built, sources)
            return
        self._refuse(built)
        good = self.kept.read(self.files)
        if good is not None:
            old = self._compiled(good)
            if isinstance(old, Snapshot):
                self._snapshot = old
                log.warning("last-good-configuration-taken", version=old.version)
        if self._snapshot is None:
            raise InvalidConfiguration(self.problems)

    async def reload(self) -> bool:
        """Reads, compiles and swaps; whether the files are what runs now."""
        sources = await self._read_stable()
        if isinstance(sources, list):
            self._refuse(sources)
            return False
        # In a thread, with the collector off: walking 10,000 new routes in the midst of
        # compiling them would stall the loop for 0.2 s.
        built = await asyncio.to_thread(self._checked, sources)
        if isinstance(built, list):
            self._refuse(built)
            return False
        self._take(built, sources)
        return True

    async def watch(self) -> None:
        """Reloads within a second of every edit, for as long as the worker lives."""
        self._reload_requested = asyncio.Event()
        async for _ in self._poll_events():
            forced = self._reload_requested.is_set()
            self._reload_requested.clear()
            if forced or self._changed():
                await self.reload()

    def request_reload(self) -> None:
        """SIGHUP: read the files again though nothing seems to have changed."""
        if self._reload_requested is not None:
            self._reload_requested.set()

    async def _poll_events(self) -> AsyncIterator[None]:
        """Whenever it may be worth to look."""
        while True:
            folders = {self.files.routes.parent, self.files.policies}
            present = [folder for folder in folders if folder.is_dir()]
            try:
                async with aclosing(_events(present)) as events:
                    async for _ in events:
                        yield
                        if [folder for folder in folders if folder.is_dir()] != present:
                            break
            except (OSError, RuntimeError) as error:
                # No watches left, a folder went away, or a name is not UTF-8: looking goes on
                # without events.
                log.debug("watch-failed", error=str(error))
            await asyncio.sleep(LOOK_EVERY_MS / 1000)
            yield

    def _changed(self) -> bool:
        if self.files.signature() != self._signature:
            return True
        if self._secret_reading is not None and self._secret_reading.outdated:
            return True
        return upstream_tls.file_stamp(self._tls_files) != self._tls_stamp

    def _checked(self, sources: Sources) -> Snapshot | list[ConfigProblem]:
        """Compiled, and the files beside it looked at."""
        try:
            built = self._compiled(sources)
        except Exception as error:
            # Whatever the files hold, what runs goes on.
            log.error("configuration-not-read", exc_info=error)
            text = f"a defect keeps the gateway from reading the files: {type(error).__name__}"
            return [ConfigProblem(str(self.files.routes), 1, 1, text)]
        if isinstance(built, list):
            return built
        named = upstream_tls.tls_of_snapshot(built)
        self._tls_files = tuple(path for tls in named for path in upstream_tls.paths(tls))
        self._tls_stamp = upstream_tls.file_stamp(self._tls_files)
        return self.tls.problems(named) or built

    def _compiled(self, sources: Sources) -> Snapshot | list[ConfigProblem]:
        reading = self._secret_reading = SecretReading(self.secrets)
        # What is frozen below stays for good: young garbage is taken away before.
        gc.collect(1)
        gc.disable()
        try:
            return compile_snapshot(sources, self.own_paths, reading, self.own_issuer)
        finally:
            # Frozen before it may be walked: one collection over 10,000 routes stalls 200 ms.
            gc.freeze()
            gc.enable()

    async def _read_stable(self) -> Sources | list[ConfigProblem]:
        """The texts, read while nobody wrote to them."""
        signature = self.files.signature()
        while True:
            await asyncio.sleep(SETTLE_S)
            now = self.files.signature()
            if now == signature:
                # In a thread: a disk may take its time.
                sources = await asyncio.to_thread(
                    read_sources, self.files.routes, self.files.policies
                )
                if self.files.signature() == signature:
                    self._signature = signature
                    return sources
            signature = now

    def _take(self, snapshot: Snapshot, sources: Sources) -> None:
        old = self._snapshot
        self.problems = []
        self._snapshot = snapshot
        # What stays until the next reload need not be walked by every collection.
        gc.freeze()
        if old is None or old.version != snapshot.version:
            self.kept.keep(self.files, sources)
            log.info("configuration-loaded", version=snapshot.version)
        self._note_secrets(first=old is None)
        for tell in self.on_change:
            tell(snapshot)

    def _note_secrets(self, *, first: bool) -> None:
        """Say which secrets are others than before, never what they are."""
        texts = {} if self._secret_reading is None else self._secret_reading.texts
        changed = sorted(name for name in texts if texts[name] != self._secret_texts.get(name))
        self._secret_texts = texts
        if changed and not first:
            log.info("secrets-loaded", names=changed)

    def _refuse(self, problems: list[ConfigProblem]) -> None:
        if problems != self.problems:
            for tell in self.on_refusal:
                tell(problems)
        self.problems = problems
        running = self._snapshot.version if self._snapshot is not None else None
        log.error("reload-rejected", running=running, problems=len(problems))
        for problem in problems[:LOGGED_PROBLEMS]:
            log.error("configuration-problem", problem=str(problem))


async def _events(folders: Sequence[Path]) -> AsyncGenerator[None]:
    """Whenever something happened in these folders, and at each LOOK_EVERY_MS.

    `awatch` tells the same by what anyio has for each event loop: 30 modules, which every worker
    would import while it starts.
    """
    ended = threading.Event()
    changes = watchfiles.watch(
        *folders,
        recursive=False,
        step=SETTLE_S_MS,
        debounce=200,
        rust_timeout=LOOK_EVERY_MS,
        yield_on_timeout=True,
        watch_filter=None,
        stop_event=ended,
        raise_interrupt=False,
    )
    try:
        while await asyncio.to_thread(next, changes, None) is not None:
            yield
    finally:
        # The thread sees it within SETTLE_S, and lets go of the folders.
        ended.set()


def _identity(files: Files) -> list[str]:
    return [str(files.routes.absolute()), str(files.policies.absolute())]
