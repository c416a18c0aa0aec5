"""`mxpipe jobs`: list the trainings below a directory, end orphans, give disk space back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence

from mxpipe.jobs.local import LocalLauncher
from mxpipe.jobs.reaper import GRACE_SECONDS, Finding, reap

Run = Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `list`, `reap` and `prune` to the parser of `mxpipe jobs`."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Run, text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example:\n  mxpipe jobs {name} {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        command.add_argument("--root", required=True, metavar="DIR", help="the folder above run directories")
        command.add_argument("--json", action="store_true", help="print JSON")
        return command

    def add_clearing(name: str, run: Run, text: str, example: str) -> argparse.ArgumentParser:
        command = add(name, run, text, example)
        command.add_argument("--dry-run", action="store_true", help="only say what would be done")
        command.add_argument(
            "--snapshots", action="append", default=[], metavar="DIR", help="folder of snapshots; repeatable"
        )
        return command

    add("list", _list, "List the trainings of a directory.", "--root runs")
    orphans = add_clearing(
        "reap",
        _reap,
        "End orphans: processes of ended jobs, jobs without a process, files of killed writers.",
        "--root /var/lib/mxpipe/jobs --dry-run",
    )
    orphans.add_argument(
        "--grace", type=float, default=GRACE_SECONDS, help="seconds that a process may outlive its job (120)"
    )
    old = add_clearing(
        "prune",
        _prune,
        "Remove ended runs and snapshots that nothing refers to. All rules given must let a thing go.",
        "--root runs --snapshots snapshots --keep-last 20 --older-than 30 --dry-run",
    )
    old.add_argument("--keep-last", type=int, metavar="N", help="the newest N stay")
    old.add_argument("--older-than", type=float, metavar="DAYS", help="what is younger stays")
    old.add_argument("--keep-bytes", type=int, metavar="BYTES", help="the newest stay up to this size")
    old.add_argument("--checkpoints", action="store_true", help="remove the checkpoints of runs, no more")
    old.add_argument(
        "--referrers", action="append", default=[], metavar="DIR", help="folder of JSON files; repeatable"
    )


def _list(options: argparse.Namespace) -> int:
    jobs = LocalLauncher(options.root).list()
    if options.json:
        print(json.dumps([{"id": job_id} | status.to_json() for job_id, status in jobs], indent=2))
        return 0
    for job_id, status in jobs:
        progress = f"{status.step}/{status.total_steps or '?'}"
        print(f"{job_id:64} {status.state:12} {progress:>15}  attempt {status.attempt}  key {status.key}")
    return 0


def _reap(options: argparse.Namespace) -> int:
    findings = reap(
        options.root,
        snapshots=tuple(options.snapshots),
        grace_seconds=options.grace,
        dry_run=options.dry_run,
    )
    return _print(findings, options)


def _prune(options: argparse.Namespace) -> int:
    from mxpipe.jobs.retention import Policy, prune

    findings = prune(
        options.root,
        Policy(options.keep_last, options.older_than, options.keep_bytes),
        snapshots=options.snapshots,
        referrers=options.referrers,
        checkpoints_only=options.checkpoints,
        dry_run=options.dry_run,
    )
    return _print(findings, options)


def _print(findings: Sequence[Finding], options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
        return 0
    for finding in findings:
        size = f"  {finding.bytes / 1e6:,.1f} MB" if finding.bytes else ""
        print(f"{finding.kind:11} {finding.action:20} {finding.path}  ({finding.reason}){size}")
    total = sum(finding.bytes for finding in findings)
    would = "would be " if options.dry_run else ""
    print(f"{len(findings)} found, {total / 1e6:,.1f} MB {would}freed")
    return 0
