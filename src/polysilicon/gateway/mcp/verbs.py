"""What the tools of MCP do in a worker process: the code behind the verbs of the command line.

A worker can be killed when its time is up, which a thread cannot. What is returned is what the verb
prints with `--json`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from polysilicon import catalog
from polysilicon.catalog.policy import check_policy
from polysilicon.cost.kinds import REFERENCE
from polysilicon.errors import InputError, PolysiliconError
from polysilicon.gateway.mcp.arguments import Describe, Estimate, Place
from polysilicon.gateway.retention import rooted
from polysilicon.gateway.traces.store import FOLDER as TRACES
from polysilicon.gateway.traces.store import WORKLOAD
from polysilicon.placement.place import Question, place
from polysilicon.report.compare import compare, comparison_object
from polysilicon.report.question import question_of
from polysilicon.runtime.journals import open_journal
from polysilicon.simulate.check import Player
from polysilicon.workload.describe import describe
from polysilicon.workload.files import SUFFIXES, read
from polysilicon.workload.workload import Workload

WORKLOADS = "workloads"
_NAME = re.compile(r"[\w][\w.-]*")


def estimated(given: dict[str, Any], _folder: str) -> dict[str, Any]:
    """Estimate a step on offers."""
    asked = msgspec.convert(given, Estimate)
    told = msgspec.structs.asdict(asked) | {"names": asked.offers, "chips": asked.chips}
    found = compare(question_of(told, catalog.load()), speed=asked.sort == "speed")
    return comparison_object(found, asked.limit)


def placed(given: dict[str, Any], folder: str) -> Any:
    """Place a workload."""
    asked = msgspec.convert(given, Place)
    check_policy(asked.policy, "policy")
    question = Question(
        workload=_workload(Path(folder), asked.workload),
        policy=asked.policy,
        offers=asked.offers,
        sizing=asked.size_for,
        where=asked.workload,
    )
    facts = catalog.load()
    player = Player(policy=asked.policy, catalog=facts, measured_on=REFERENCE)
    placement, _ = place(question, facts, player)
    return msgspec.to_builtins(placement)


def described(given: dict[str, Any], folder: str) -> Any:
    """Describe a workload."""
    asked = msgspec.convert(given, Describe)
    return msgspec.to_builtins(describe(_workload(Path(folder), asked.workload)))


def told(verb: str, given: dict[str, Any], folder: str) -> dict[str, Any]:
    """Do what a tool is asked, and return its result, or the one line of what is wrong with it."""
    work = {"estimate": estimated, "place": placed, "describe": described}[verb]
    try:
        return {"result": work(given, folder)}
    except PolysiliconError as error:
        return {"error": str(error)}


def _workload(folder: Path, name: str) -> Workload:
    """Return a workload by its name; nothing outside the gateway's folder has one.

    Raises:
        InputError: there is none.
    """
    if name == "gateway":
        journal = open_journal(folder, follows=True)
        try:
            found = Workload.from_records(rooted(journal.steps()))
        finally:
            journal.close()
        if not len(found):
            raise InputError("no step has ended yet", where=name)
        return found
    if name == "traces":
        path = folder / TRACES / WORKLOAD
        if not path.is_file():
            raise InputError("no traces have come in", where=name, mend="send them to /v1/traces")
        return read(path)
    known = [path for path in (folder / WORKLOADS).glob("*") if path.suffix in SUFFIXES]
    found_path = next((path for path in known if name in {path.name, path.stem}), None)
    if not _NAME.fullmatch(name) or found_path is None:
        names = ", ".join(["gateway", "traces", *sorted(path.name for path in known)])
        raise InputError("there is no such workload", where=name[:80], mend=f"known: {names}")
    return read(found_path)
