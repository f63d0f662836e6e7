"""Gateways on one PostgreSQL database, killed and paused at random moments while tasks come in.

SIGKILL ends a gateway, and another is started in its place; SIGSTOP pauses one for longer than its
lease, so that the others take its tasks, and SIGCONT lets it go on. After every mishap it is
checked that no step that had ended was done again (effects are counted in a file that is only
appended to), and in the end that every accepted task completed, with each of its steps once. Any
broken promise ends the benchmark with what was broken.

    python benchmarks/gateways_chaos.py            60 kills, and about 30 pauses among them
    python benchmarks/gateways_chaos.py 200 1.0    200, with leases of a second

The count so far goes to stderr.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from gateway_group import STEPS, Group, database, mishap
from postgres_server import Server, missing

KILLS, TERM_S, GATEWAYS = 60, 1.0, 3
KINDS = (("kill", 2), ("pause", 1))
_EVERY_S = 0.3
_STEP_S = 0.1


class Clients(threading.Thread):
    """Asks for a task now and then, at whichever gateway answers, until told to stop."""

    def __init__(self, group: Group) -> None:
        super().__init__(daemon=True)
        self._group, self._ending = group, threading.Event()
        self.failed: list[BaseException] = []

    def run(self) -> None:
        """Ask again and again."""
        number = 0
        while not self._ending.wait(_EVERY_S):
            number += 1
            try:
                members = list(self._group.members)
                first = number % len(members)
                asked = members[first:] + members[:first]
                self._group.submit(f"task-{number}", _STEP_S, asked)
            except AssertionError as error:
                self.failed.append(error)
                return

    def end(self) -> None:
        """Stop, and raise what went wrong."""
        self._ending.set()
        self.join()
        for error in self.failed:
            raise error


def run(group: Group, wanted: int, rng: random.Random) -> Counter[str]:
    """Break gateways until so many were killed; check, and return how many of each kind came."""
    for _ in range(GATEWAYS):
        group.start()
    for member in group.members:
        member.client.get("/healthz")
    clients, done = Clients(group), Counter[str]()
    clients.start()
    names, weights = zip(*KINDS, strict=True)
    while done["kill"] < wanted and not clients.failed:
        kind = rng.choices(names, weights)[0]
        mishap(group, rng, kind)
        done[kind] += 1
        ended = group.look()
        print(f"{done['kill']} of {wanted} kills, {len(group.accepted)} tasks accepted, "
              f"{ended} steps ended, none again", file=sys.stderr, flush=True)  # fmt: skip
    clients.end()
    group.finished(300.0)
    return done


def main() -> None:
    """Break gateways, and print what came of it."""
    given = sys.argv[1:]
    wanted = int(given[0]) if given else KILLS
    term_s = float(given[1]) if len(given) > 1 else TERM_S
    if (reason := missing()) is not None:
        sys.exit(reason)
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        with Group(Path(folder) / "group", database(server), term_s) as group:
            done = run(group, wanted, random.Random(wanted))
            log = (group.folder / "log").read_text()
            turns = sum(int(line.partition("took over ")[2].split()[0])
                        for line in log.splitlines() if "took over " in line)  # fmt: skip
            lost = log.count("the lease was lost")
            with suppress(OSError):
                effects = len(group.notes.read_text().splitlines())
        tasks = len(group.accepted)
    print(
        f"{done['kill']} kills and {done['pause']} pauses of {GATEWAYS} gateways with leases of "
        f"{term_s:g} s in {time.monotonic() - begin_s:.0f} s: {tasks} tasks accepted and "
        f"completed, {tasks * STEPS} steps, each once; {turns} times a task was taken over, "
        f"{lost} leases lost by gateways that came back; {effects - tasks * STEPS} effects were "
        "cut off before their end and tried again under their keys"
    )


if __name__ == "__main__":
    main()
