"""What of runs, checkpoints and snapshots may go, by age, number and bytes, and never what is still needed.

Every rule that is given only protects: a thing goes when all of them let it go. Whatever the rules say, these
stay: a job at work, a run whose spool still has to be sent, a run or snapshot that something else refers to,
and what was written within the last hour (the stage that will refer to it may not have come yet).

Something refers to a run or a snapshot by its path, a path below it, or its digest, in

* the specification of a run that stays, or the metadata of its model;
* the manifest of a snapshot that stays;
* a JSON file below one of the folders named as referrers (evaluations, studies, reports);
* what an entry point of the group `mxpipe.references` returns: a registry, say. When one of them fails,
  nothing is removed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mxpipe.data.storage import MANIFEST, local_path
from mxpipe.errors import JobError, LeaseHeldError, SpecificationError
from mxpipe.jobs.local import LAUNCH_LOCK, LocalLauncher
from mxpipe.jobs.reaper import Finding, maintenance, size_of
from mxpipe.model.storage import lock_file, partial_path
from mxpipe.train.checkpoint import remove_checkpoints
from mxpipe.train.run_directory import RunDirectory

REFERENCE_GROUP = "mxpipe.references"
_FRESH_SECONDS = 3600.0
_EVENTS = "events.jsonl"


@dataclass(frozen=True)
class Policy:
    """Which of many things are old enough to go; at least one rule is given.

    Attributes:
        keep_last: So many of the newest stay.
        older_than_days: What is younger stays.
        keep_bytes: The newest stay as long as they take no more than this together.

    Raises:
        SpecificationError: No rule is given, or a rule is negative.
    """

    keep_last: int | None = None
    older_than_days: float | None = None
    keep_bytes: int | None = None

    def __post_init__(self) -> None:
        given = [rule for rule in vars(self).values() if rule is not None]
        if not given:
            raise SpecificationError("[prune] one rule must be given: keep-last, older-than or keep-bytes.")
        if min(given) < 0:
            raise SpecificationError(f"[prune] a rule must be at least 0; got {min(given)}.")

    def outdated(self, items: Iterable[Item]) -> list[Item]:
        """Those that all rules let go, newest first."""
        now, total, outdated = time.time(), 0, []
        for position, item in enumerate(sorted(items, key=lambda item: (-item.time, str(item.path)))):
            total += item.bytes
            age = now - item.time
            protected = (
                age < _FRESH_SECONDS
                or (self.keep_last is not None and position < self.keep_last)
                or (self.older_than_days is not None and age < self.older_than_days * 86400)
                or (self.keep_bytes is not None and total <= self.keep_bytes)
            )
            if not protected:
                outdated.append(item)
        return outdated


@dataclass(frozen=True)
class Item:
    """A run or a snapshot.

    Attributes:
        path: Its folder.
        time: When it was last written, seconds since the epoch.
        bytes: Its size.
        names: What others may call it: its path, its digest.
        texts: All texts that it holds and that may refer to others.
    """

    path: Path
    time: float
    bytes: int
    names: frozenset[str]
    texts: frozenset[str]


def prune(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    snapshots: Iterable[str | os.PathLike[str]] = (),
    referrers: Iterable[str | os.PathLike[str]] = (),
    references: Iterable[str] = (),
    checkpoints_only: bool = False,
    dry_run: bool = False,
) -> list[Finding]:
    """Remove runs that ended, and snapshots, that a policy lets go and nothing refers to.

    Args:
        root: The directory above run directories.
        policy: Applied to the runs, and to the snapshots of each folder.
        snapshots: Folders in which snapshots are, at any depth.
        referrers: Folders whose JSON files may refer to runs and snapshots.
        references: Further paths and digests that stay.
        checkpoints_only: Of runs, remove the checkpoints and leave the rest; leave snapshots alone.
        dry_run: Only say what would go.

    Returns:
        What went, or would go.

    Raises:
        LeaseHeldError: Another process is clearing up here.

    Example:
        >>> prune("no/such/directory", Policy(keep_last=10), dry_run=True)
        []
    """
    launcher = LocalLauncher(root)
    folders = [Path(folder).absolute() for folder in snapshots]
    outside = [*references, *_outside_references([Path(folder).absolute() for folder in referrers])]
    with contextlib.ExitStack() as held:
        if not dry_run and launcher.root.is_dir():
            held.enter_context(maintenance(launcher.root))
        busy, ended = _runs(launcher)
        if checkpoints_only:
            return _prune_checkpoints(policy.outdated(ended), dry_run)
        groups = [ended, *(list(_snapshots(folder)) for folder in folders)]
        going = _unreferenced(groups, policy, [*busy, *outside])
        findings = [_finding("run", item) for item in ended if item in going]
        findings += [_finding("snapshot", item) for group in groups[1:] for item in group if item in going]
        if not dry_run:
            findings = [finding for finding in findings if _remove(finding)]
    return findings


def _unreferenced(groups: list[list[Item]], policy: Policy, texts: Iterable[str]) -> set[Item]:
    """What may go: each thing that is found to stay may keep others, until nothing changes."""
    going = {item for group in groups for item in policy.outdated(group)}
    staying = {item for group in groups for item in group} - going
    referred = _referred(texts)
    while True:
        referred |= _referred(text for item in staying for text in item.texts)
        staying = {item for item in going if item.names & referred}
        if not staying:
            return going
        going -= staying


def _referred(texts: Iterable[str]) -> set[str]:
    """Texts, and where they are paths, all folders above as well."""
    referred: set[str] = set()
    for text in texts:
        referred.add(text)
        if "/" in text and len(text) < 4096 and (path := local_path(text)) is not None:
            referred.update(map(str, (path, *path.parents)))
    return referred


def _runs(launcher: LocalLauncher) -> tuple[list[str], list[Item]]:
    """Texts of the runs that must stay, and the runs that have ended."""
    busy: list[str] = []
    ended: list[Item] = []
    paths = sorted(launcher.root.iterdir()) if launcher.root.is_dir() else []
    for path in paths:
        run = RunDirectory(path)
        if path.name.startswith(".") or not run.status_path.exists():
            continue
        item = _run_item(run)
        try:
            active = run.read_status().state.is_active or run.is_lease_held()
        except JobError:
            active = True  # not understood: not touched
        if active or _has_unsent(run):
            busy += item.texts
        else:
            ended.append(item)
    return busy, ended


def _run_item(run: RunDirectory) -> Item:
    model = _json(run.model_path / "model.json")
    metadata = model.get("metadata", {}) if isinstance(model, dict) else {}
    digest = str(model.get("sha256", "")) if isinstance(model, dict) else ""
    return Item(
        path=run.path,
        time=run.status_path.stat().st_mtime,
        bytes=size_of(run.path),
        names=frozenset(name for name in (str(run.path), run.path.name, digest) if name),
        texts=frozenset(_texts([_json(run.spec_path), metadata])),
    )


def _has_unsent(run: RunDirectory) -> bool:
    """Whether a spool waits for its server: `NAME.jsonl`, of which `NAME.json` says how much was `sent`."""
    for spool in run.path.glob("*.jsonl"):
        if spool.name == _EVENTS:
            continue
        cursor = _json(spool.with_suffix(".json"))
        sent = cursor.get("sent") if isinstance(cursor, dict) else None
        if not isinstance(sent, int) or sent < spool.stat().st_size:
            return True
    return False


def _snapshots(folder: Path) -> Iterator[Item]:
    for manifest in sorted(folder.rglob(MANIFEST)) if folder.is_dir() else ():
        content = _json(manifest)
        if manifest.parent.name.startswith(".") or not isinstance(content, dict):
            continue
        if (manifest.parent.parent / MANIFEST).exists():  # one inside another goes with it
            continue
        if content.get("format") == "mxpipe.snapshot":
            yield Item(
                path=manifest.parent,
                time=manifest.stat().st_mtime,
                bytes=size_of(manifest.parent),
                names=frozenset((str(manifest.parent), str(content.get("digest")))),
                texts=frozenset(_texts(content.get("metadata"))),
            )


def _outside_references(folders: Iterable[Path]) -> list[str]:
    texts: list[str] = []
    for entry in importlib.metadata.entry_points(group=REFERENCE_GROUP):
        texts += map(str, entry.load()())
    for folder in folders:
        for path in (*folder.rglob("*.json"), *folder.rglob("*.jsonl")):
            with contextlib.suppress(OSError):
                for line in path.read_text(errors="replace").splitlines() if path.suffix == ".jsonl" else ():
                    texts += _texts(_parsed(line))
            texts += _texts(_json(path))
    return texts


def _json(path: Path) -> Any:
    try:
        return _parsed(path.read_text(errors="replace"))
    except OSError:
        return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _finding(kind: str, item: Item) -> Finding:
    days = (time.time() - item.time) / 86400
    return Finding(kind, str(item.path), "remove", f"{days:.1f} days old, referred to by nothing", item.bytes)


def _remove(finding: Finding) -> bool:
    """Rename aside, then remove: a kill in between leaves what `reap` finds."""
    path = Path(finding.path)
    with contextlib.ExitStack() as held:
        if finding.kind == "run" and not _lock_ended(RunDirectory(path), held):
            return False
        aside = partial_path(path)
        os.rename(path, aside)
        shutil.rmtree(aside, ignore_errors=True)
    return True


def _lock_ended(run: RunDirectory, held: contextlib.ExitStack) -> bool:
    """Keep launchers and workers out; False where one of them is there already, or has been meanwhile."""
    launch = lock_file(run.path / LAUNCH_LOCK, wait=False)
    if launch is None:
        return False
    held.callback(os.close, launch)
    try:
        held.enter_context(run.acquire_lease(patience=0.0))
    except LeaseHeldError:
        return False
    return not run.read_status().state.is_active


def _prune_checkpoints(items: Iterable[Item], dry_run: bool) -> list[Finding]:
    findings = []
    for item in items:
        run = RunDirectory(item.path)
        if not any(run.checkpoints_path.glob("step-*")):
            continue
        with contextlib.ExitStack() as held:
            if not dry_run:
                if not _lock_ended(run, held):
                    continue
                size = size_of(run.checkpoints_path)
                remove_checkpoints(run.checkpoints_path)
            else:
                size = size_of(run.checkpoints_path)
        findings.append(
            Finding("checkpoints", str(run.checkpoints_path), "remove", "a retry would start over", size)
        )
    return findings
