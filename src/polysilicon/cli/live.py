"""The live view of a run: tasks, steps and tokens a second, and what runs now."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from polysilicon import units
from polysilicon.cli.output import progress as console_of_progress
from polysilicon.runtime.run import Progress

_REFRESH_S = 0.25
_LINE_EVERY_S = 10.0
_SHOWN_TASKS = 12


class LiveView:
    """Shows a run's progress on stderr while it goes on: a live page, or a line now and then."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._console = console_of_progress()
        self._task: asyncio.Task[None] | None = None
        self._live: Live | None = None

    async def __aenter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._task = asyncio.create_task(self._show())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._live is not None:
            self._live.stop()
        self._console.print(self._line())

    async def _show(self) -> None:
        said_s, phase = 0.0, ""
        while True:
            if self._live is not None:
                self._live.update(self._page(), refresh=True)
            elif phase != self._progress.phase or time.monotonic() - said_s > _LINE_EVERY_S:
                said_s, phase = time.monotonic(), self._progress.phase
                self._console.print(self._line())
            await asyncio.sleep(_REFRESH_S)

    def _line(self) -> Text:
        view, counters = self._progress, self._progress.counters
        wall_s = max(time.monotonic() - view.started_s, 1e-9)
        tokens = counters.output_tokens + counters.prompt_tokens
        text = f"{view.phase} · {units.seconds(wall_s)}"
        if view.tasks:
            text += (
                f" · tasks {view.done}/{view.tasks}"
                + (f" ({view.failed} failed)" if view.failed else "")
                + f" · steps {counters.steps} ({counters.steps / wall_s:.1f}/s)"
                + f" · tokens {units.count(tokens)} ({tokens / wall_s:.0f}/s)"
            )
        if counters.replayed:
            text += f" · {counters.replayed} steps from the journal"
        return Text(text, style="dim")

    def _page(self) -> Group:
        view = self._progress
        bar = ProgressBar(total=max(view.tasks, 1), completed=view.done, width=60)
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("task", no_wrap=True)
        table.add_column("runs now", no_wrap=True)
        active = list(view.active.values())
        for state in active[:_SHOWN_TASKS]:
            names = Counter(state.running)
            now = ", ".join(f"{c} {n}" if c > 1 else n for n, c in names.items())
            table.add_row(Text(state.task_id), Text(now or "waiting"))
        if len(active) > _SHOWN_TASKS:
            table.add_row(f"and {len(active) - _SHOWN_TASKS} more", "")
        return Group(self._line(), bar, table)
