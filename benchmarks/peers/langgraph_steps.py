"""No-op steps of LangGraph with its SQLite checkpointer, synced: prints seconds as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import pairwise
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    """How many steps were taken."""

    taken: int


def main() -> None:
    """Measure and print."""
    steps = int(sys.argv[1])
    begins: list[float] = []

    def nothing(state: State) -> State:
        begins.append(time.perf_counter())
        return {"taken": state["taken"] + 1}

    graph = StateGraph(State)
    graph.add_node("nothing", nothing)
    graph.add_edge(START, "nothing")
    graph.add_conditional_edges(
        "nothing", lambda state: END if state["taken"] >= steps else "nothing"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteSaver.from_conn_string(f"{folder}/checkpoints.sqlite") as saver,
    ):
        app = graph.compile(checkpointer=saver)
        config = {"configurable": {"thread_id": "bench"}, "recursion_limit": steps + 10}
        begin_s = time.perf_counter()
        app.invoke({"taken": 0}, config, durability="sync")
        wall_s = time.perf_counter() - begin_s
    each = [later - earlier for earlier, later in pairwise(begins)]
    print(json.dumps({"wall_s": wall_s, "each_s": each}))


if __name__ == "__main__":
    main()
