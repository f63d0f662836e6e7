"""Makes `server_scores.csv` of the catalog from a copy of SpareCores/sc-inspector-data.

Usage: python tools/server_scores.py REPOSITORY > server_scores.csv

For each server type of `server_types.csv` it writes two measured facts by which chips that never
ran a model are told apart: how fast one thread is, and how fast all threads together read their
first-level caches, which grows with threads, clock and width of the vector units. The result is
derived from data under CC BY-SA 4.0.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import TextIO

from core_scores import passmark, read_file
from polysilicon.catalog.servers import load_servers

# MB that each thread reads again and again.
BLOCK = "0.016384"


def main(repository: str, out: TextIO) -> None:
    """Write the table."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("instance", "thread_score", "l1_read_gbs"))
    git = ("git", "-C", repository, "cat-file", "--batch")
    with subprocess.Popen(git, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipe:
        for name in load_servers().types:
            scores = read_file(pipe, f"data/{name}/passmark/stdout")
            reads = read_file(pipe, f"data/{name}/bw_mem/stdout")
            if scores is None or reads is None:
                continue
            rows = (line.split() for line in reads.splitlines())
            rates = [row[2] for row in rows if row[:2] == ["rd", BLOCK]]
            if rates:
                read_gbs = float(rates[0]) / 1000
                writer.writerow((name, f"{passmark(scores):.0f}", f"{read_gbs:.4g}"))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdout)
