"""Makes `hosts.csv` and `host_scores.csv` of the catalog: the CPUs of hosts of accelerators.

Usage: python tools/host_scores.py REPOSITORY FOLDER

Reads a copy of SpareCores/sc-inspector-data: which CPU the host of each accelerator offer has, and
for CPUs that no CPU offer of the catalog has, how fast their cores are, as `core_scores.py` does.
Hosts that were not measured are in `TOLD`. The results are derived from data under CC BY-SA 4.0.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import core_scores
from polysilicon import catalog

CHIPS = {
    r"8259CL": "Intel Xeon Platinum 8259CL (Cascade Lake, AWS)",
    r"8275CL": "Intel Xeon Platinum 8275CL (Cascade Lake, AWS)",
    r"8375C": "Intel Xeon Platinum 8375C (Ice Lake, AWS)",
    r"8481C": "Intel Xeon Platinum 8481C (Sapphire Rapids, GCP)",
    r"8559C": "Intel Xeon Platinum 8559C (Emerald Rapids, AWS)",
    r"7R32": "AMD EPYC 7R32 (Rome, AWS)",
    r"7R13": "AMD EPYC 7R13 (Milan, AWS)",
    r"7V13": "AMD EPYC 7V13 (Milan, Azure)",
    r"9V84": "AMD EPYC 9V84 (Genoa, Azure)",
    r"CPU @ 2\.20GHz": "Intel Xeon 2.20 GHz (Cascade Lake, GCP)",
}
"""What lscpu says of a host, and the name of its chip in the catalog."""

AWS_PAGE = (
    "as commonly told of the series; entered from memory, not checked against Amazon EC2 "
    "instance types page and user guide"
)
TOLD = {
    "aws/p4de": ("Intel Xeon Platinum 8275CL (Cascade Lake, AWS)", AWS_PAGE),
    "aws/p5": ("AMD EPYC 7R13 (Milan, AWS)", AWS_PAGE),
    "aws/p5en": ("Intel Xeon Platinum 8488C (Sapphire Rapids, AWS)", AWS_PAGE),
    "aws/p6-b200": ("Intel Xeon Platinum 8559C (Emerald Rapids, AWS)", AWS_PAGE),
    "aws/p6-b300": ("Intel Xeon Platinum 8559C (Emerald Rapids, AWS)", AWS_PAGE),
}
"""Series of which no host was measured; those of chips without scores are left out."""


def main(repository: str, folder: Path) -> None:
    """Write both tables."""
    git = ("git", "-C", repository)
    head = subprocess.run((*git, "log", "-1", "--format=%H %cs"), capture_output=True, check=True)
    commit, date = head.stdout.decode().split()
    source = f"SpareCores/sc-inspector-data@{commit[:8]}"
    every = [m for m in core_scores.machines(git) if m["threads_per_core"]]
    common = set.intersection(*(set(m["text"]) for m in every if m["text"]))
    hosts: dict[str, tuple[str, int, str, str]] = {}
    rows: dict[str, list[core_scores.Row]] = defaultdict(list)
    for name, machine in measured(git):
        hosts[name] = (machine["chip"], machine["threads_per_core"], source, date)
        rates = machine["text"]
        if rates and common <= set(rates):
            machine["text"] = core_scores.mean([rates[key] for key in common])
            rows[machine["chip"]].append(machine)
    for name in accelerator_offers():
        chip, told = TOLD.get(name.partition(".")[0], ("", ""))
        if name not in hosts and chip:
            hosts[name] = (chip, 2, told, "2026-11-22")
    with (folder / "hosts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("offer", "processor", "vcpus_per_core", "source", "date"))
        writer.writerows((name, *hosts[name]) for name in sorted(hosts))
    known = {machine["chip"] for machine in every}
    whole = core_scores.scaling_of_whole_cores(every)
    with (folder / "host_scores.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(core_scores.COLUMNS)
        for chip in sorted(set(rows) - known):
            core_scores.write_chip(writer, chip, rows[chip], whole, source, date)


def accelerator_offers() -> list[str]:
    """Return the names of the catalog's offers of accelerators, each once."""
    return list(dict.fromkeys(o.name for o in catalog.load().offers if o.kind != "cpu"))


def measured(git: tuple[str, ...]) -> list[tuple[str, core_scores.Row]]:
    """Return what was measured on hosts whose chip has a name here."""
    found = []
    for name, machine in core_scores.read_machines(git, dict.fromkeys(accelerator_offers(), "")):
        model = machine["model"] or ""
        chip = next((chip for told, chip in CHIPS.items() if re.search(told, model)), None)
        if chip is not None and machine["threads_per_core"]:
            found.append((name, machine | {"chip": chip}))
    return found


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
