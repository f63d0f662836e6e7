"""Take the pictures of docs/dashboard.md: a real gateway, real agents, real Chromium.

    python tools/dashboard_pictures.py docs/dashboard

It serves this machine's model, runs bundled agents through `/v1/tasks`, places what was recorded,
plans examples/plan_startup.toml, and takes pictures of the pages. Chromium must be installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
POLYSILICON = [sys.executable, "-c", "from polysilicon.cli import main; main()"]
WIDE, PHONE = {"width": 1080, "height": 760}, {"width": 390, "height": 780}
MOST_BYTES = 200_000
SUPPORT, RESEARCHER = 10, 3
APART_S = 2.0


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Serve until the block ends, and give the address."""
    command = [*POLYSILICON, "serve", "--port", "0", "--folder", str(folder), *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if found := re.search(r"(http://\S+)/v1 serves", line):
                break
        else:
            sys.exit("the gateway did not start")
        try:
            yield found[1]
        finally:
            server.terminate()
            server.wait()


def submit(address: str) -> list[str]:
    """Give the gateway tasks of two agents, and return their ids."""
    client = httpx.Client(base_url=address, timeout=60)
    agents = {one["name"]: one["example"] for one in client.get("/v1/agents").json()["data"]}
    tasks = []
    for name in ["support"] * SUPPORT + ["researcher"] * RESEARCHER:
        body = {"agent": name, "input": agents[name]}
        tasks.append(client.post("/v1/tasks", json=body).json()["id"])
        time.sleep(APART_S)
    return tasks


def wait(address: str, task: str, over: tuple[str, ...]) -> None:
    """Wait until a task is so far."""
    while httpx.get(f"{address}/v1/tasks/{task}").json()["status"] not in over:
        time.sleep(0.5)


def take(browser: Browser, url: str, path: Path, *, phone: bool = False, ready: str = "") -> None:
    """Take a picture of a page; on a phone in the dark."""
    page = browser.new_page(
        viewport=PHONE if phone else WIDE, color_scheme="dark" if phone else "light"
    )
    page.goto(url)
    if ready:
        page.get_by_text(ready).first.wait_for(timeout=120_000)
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({**page.viewport_size, "height": min(height, 1500)})
    page.screenshot(path=path)
    page.close()
    size = path.stat().st_size
    if size > MOST_BYTES:
        sys.exit(f"{path}: {size:,} bytes, over {MOST_BYTES:,}")
    print(f"{path} {size:,} bytes")


def printed(path: Path, *command: str) -> Path:
    """Keep what a verb prints."""
    with path.open("wb") as out:
        subprocess.run([*POLYSILICON, *command], cwd=ROOT, stdout=out, check=True)
    return path


def main() -> None:
    """Take all pictures into the folder that is the only argument."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("no chromium is installed")
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch) / "gateway"
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with serving(folder) as address:
            tasks = submit(address)
            wait(address, tasks[SUPPORT // 2], ("completed", "failed"))
            take(browser, f"{address}/", out / "fleet.png")
            take(browser, f"{address}/tasks", out / "tasks.png")
            take(browser, f"{address}/tasks", out / "phone.png", phone=True)
            for task in tasks:
                wait(address, task, ("completed", "failed"))
            take(browser, f"{address}/task?id={tasks[0]}", out / "task.png")
            take(browser, f"{address}/money", out / "money.png")
            take(
                browser,
                f"{address}/elsewhere",
                out / "elsewhere.png",
                ready="The offers as a table",
            )
        placed = printed(folder / "placement.json", "place", str(folder), "--json")
        plan = folder / "plan.json"
        printed(Path(scratch) / "plan.txt", "plan", "examples/plan_startup.toml", "-o", str(plan))
        with serving(folder, "--placement", str(placed), "--plan", str(plan)) as address:
            take(browser, f"{address}/placement", out / "placement.png")
            take(browser, f"{address}/plan", out / "plan.png")
        browser.close()


if __name__ == "__main__":
    main()
