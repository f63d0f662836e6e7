"""Gateways on one PostgreSQL database, killed and paused at random moments while tasks come in.

SIGKILL ends a gateway, and another is started in its place; SIGSTOP pauses one for longer than its
lease, so that the others take its tasks, and SIGCONT lets it go on. That goes in rounds of up to 20
kills, with gateways and a database of their own. After every mishap it is checked that no step that
had ended was done again (effects are counted in a file that is only appended to), and after each
round that every accepted task completed, with each of its steps once. Any broken promise ends the
benchmark with what was broken.

    python benchmarks/gateways_chaos.py             60 kills, and about 30 pauses among them
    python benchmarks/gateways_chaos.py 200 FILE    200, less those that FILE tells of; each round
                                                    adds a line to it, so that it can be done in
                                                    several goes

The count so far goes to stderr.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from gateway_group import Group, database, mishap
from postgres_server import Server, missing
from rounds import keep, kept

KILLS, A_ROUND, TERM_S, GATEWAYS = 60, 20, 1.0, 3
KINDS = (("kill", 2), ("pause", 1))
_EVERY_S = 0.3
_STEP_S = 0.1


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a round.

    Attributes:
        kills: of gateways.
        pauses: of gateways.
        tasks: accepted and completed.
        steps: of them, each once.
        taken_over: how often a task was, by another gateway.
        leases_lost: by gateways that came back.
        again: effects that were cut off before their end, and tried again under their keys.
        wall_s: seconds.
    """

    kills: int
    pauses: int
    tasks: int
    steps: int
    taken_over: int
    leases_lost: int
    again: int
    wall_s: float


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


def broken(group: Group, wanted: int, rng: random.Random) -> Counter[str]:
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
        print(
            f"{done['kill']} of {wanted} kills in this round, {len(group.accepted)} tasks "
            f"accepted, {ended} steps ended, none again",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    clients.end()
    return done


def one_round(group: Group, wanted: int, rng: random.Random) -> Round:
    """Break gateways until so many were killed, wait for what was accepted; check, and tell."""
    begin_s = time.monotonic()
    done = broken(group, wanted, rng)
    steps = group.finished(300.0)
    log = (group.folder / "log").read_text()
    turns = [line.partition("took over ")[2] for line in log.splitlines() if "took over " in line]
    return Round(
        kills=done["kill"], pauses=done["pause"], tasks=len(group.accepted), steps=steps,
        taken_over=sum(int(turn.split()[0]) for turn in turns),
        leases_lost=log.count("the lease was lost"),
        again=len(group.notes.read_text().splitlines()) - steps,
        wall_s=time.monotonic() - begin_s,
    )  # fmt: skip


def rounds(folder: Path, server: Server, wanted: int, path: Path | None) -> list[Round]:
    """Do rounds until so many gateways were killed, in all that the file tells of."""
    found = kept(path, Round)
    while (killed := sum(done.kills for done in found)) < wanted:
        number = len(found)
        with Group(folder / str(number), database(server), TERM_S) as group:
            done = one_round(group, min(A_ROUND, wanted - killed), random.Random(number))
        found.append(done)
        print(msgspec.json.encode(done).decode(), file=sys.stderr, flush=True)
        keep(path, done)
    return found


def main() -> None:
    """Break gateways, and print what came of it."""
    given = sys.argv[1:]
    wanted = int(given[0]) if given else KILLS
    path = Path(given[1]) if len(given) > 1 else None
    if (reason := missing()) is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        found = rounds(Path(folder), server, wanted, path)
    sums = {name: sum(getattr(done, name) for done in found) for name in Round.__struct_fields__}
    print(
        "{kills} kills and {pauses} pauses of {gateways} gateways with leases of {term_s:g} s, in "
        "{rounds} rounds and {wall_s:.0f} s: {tasks} tasks accepted and completed, 0 lost; "
        "{steps} steps recorded, each once, 0 repeated after their end; {taken_over} times a task "
        "was taken over, {leases_lost} leases lost by gateways that came back; {again} effects "
        "were cut off before their end and tried again under their keys".format(
            gateways=GATEWAYS, term_s=TERM_S, rounds=len(found), **sums
        )
    )


if __name__ == "__main__":
    main()
