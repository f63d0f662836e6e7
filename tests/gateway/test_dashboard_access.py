"""Who may see the dashboard, and that no other page can drive the gateway, in real Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from browsing import OUTSIDE, Seen, complaints
from polysilicon.gateway.access import add_key
from scripted_endpoint import Endpoint
from served_gateway import endpoint_pool, serving

PAGE = b"""<!doctype html><title>outside</title><h1>outside</h1>
<iframe name="inside"></iframe><iframe id="framed"></iframe>"""

ATTACK = """async (to) => {
  const tried = async (path, options) => {
    try { return `read: ${(await (await fetch(to + path, options)).text()).slice(0, 40)}`; }
    catch { return "refused"; }
  };
  const soon = (frame) => Promise.race([
    new Promise((done) => { frame.onload = done; }), new Promise((done) => setTimeout(done, 3000)),
  ]);
  const body = JSON.stringify({ model: "scripted", messages: [{ role: "user", content: "x" }] });
  const json = { "content-type": "application/json" };
  const found = [
    await tried("/", { credentials: "include" }),
    await tried("/money", {}),
    await tried("/v1/chat/completions", { method: "POST", body, headers: json }),
    await tried("/v1/chat/completions", { method: "POST", body, credentials: "include" }),
    await tried("/logout", { method: "POST", body: new URLSearchParams({ token: "x" }) }),
  ];
  const silent = { method: "POST", body, mode: "no-cors", credentials: "include" };
  await fetch(to + "/v1/chat/completions", silent).catch(() => 0);
  for (const path of ["/v1/chat/completions", "/logout", "/login"]) {
    const form = document.createElement("form");
    Object.assign(form, { method: "post", action: to + path, target: "inside" });
    document.body.append(form);
    const loaded = soon(document.querySelector("iframe"));
    form.submit();
    await loaded;
  }
  const frame = document.getElementById("framed");
  const loaded = soon(frame);
  frame.src = to + "/";
  await loaded;
  return found;
}"""


@contextmanager
def outside() -> Iterator[int]:
    """Serve a page of somebody else, and give its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", OUTSIDE])
def test_an_outside_page_can_neither_read_nor_drive_it(
    browser: Browser, tmp_path: Path, host: str
) -> None:
    keys = tmp_path / "keys.toml"
    key = add_key(keys, "boss", admin=True)
    context = browser.new_context()
    endpoint = Endpoint(lambda _asked: {"content": "done"})
    with endpoint.served(), outside() as port:
        fleet = endpoint_pool(endpoint.address)
        with serving(tmp_path, fleet, keys=keys) as served:
            own = context.new_page()
            own.goto(served.address)
            own.get_by_label("Key").fill(key)
            own.get_by_role("button", name="Log in").click()
            expect(own.get_by_role("heading", name="Pools")).to_be_visible()

            other = context.new_page()
            other.goto(f"http://{host}:{port}/")
            assert other.evaluate(ATTACK, served.address) == ["refused"] * 5
            assert len(other.frames) == 3
            assert not any("Pools" in frame.content() for frame in other.frames)
            assert endpoint.requests == []
            expect(own.get_by_role("status")).to_have_text("Live")
            own.reload()  # whoever was logged in still is
            expect(own.get_by_role("heading", name="Pools")).to_be_visible()
    context.close()


def test_a_name_that_points_here_is_not_served(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1")) as served:
        port = served.address.rpartition(":")[2]
        answer = page.goto(f"http://{OUTSIDE}:{port}/")
        assert answer is not None
        assert answer.status == 421
        assert "Pools" not in page.content()
    page.close()


def test_keys_open_it_and_are_kept_from_scripts(browser: Browser, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    boss = add_key(keys, "boss", admin=True, budget_usd=0.0)
    agent = add_key(keys, "agent", budget_usd=25.0)
    context = browser.new_context()
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1"), keys=keys) as served:
        seen = Seen(context, served.address)
        page = seen.go("/money?secret=1")
        assert page.url == f"{served.address}/login"
        assert complaints(page) == []
        for wrong, words in (("ps-nope", "nobody has this key"), (agent, "may not see")):
            page.get_by_label("Key").fill(wrong)
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text(words)
            expect(page.get_by_label("Key")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Key").fill(boss)
        page.keyboard.press("Enter")
        expect(page.get_by_role("note")).to_contain_text("The budget of key boss is spent")
        page.get_by_role("link", name="Money").click()
        budgets = page.get_by_role("table", name="What each key")
        expect(budgets.get_by_role("row").filter(has_text="agent")).to_contain_text("$25.00")
        expect(budgets.get_by_role("row").filter(has_text="boss")).to_contain_text("spent")

        (cookie,) = context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert page.evaluate("document.cookie") == ""
        assert boss not in page.content()
        with page.expect_navigation():
            page.get_by_role("button", name="Log out boss").click()
        assert page.url == f"{served.address}/login"
        assert context.cookies() == []
        # What a browser says of an answer of 401 or 403; nothing else went wrong.
        assert [fault for fault in seen.faults if "status of 40" not in fault] == []
        assert len(seen.faults) == 2
    assert boss not in (tmp_path / "gateway/audit.jsonl").read_text()
    context.close()


def test_forms_without_their_token_change_nothing(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    boss = add_key(keys, "boss", admin=True)
    with serving(tmp_path, endpoint_pool("http://127.0.0.1:9/v1"), keys=keys) as served:
        own = {"cookie": f"polysilicon_key={boss}", "origin": served.address}
        page = served.client.get("/", headers=own)
        assert page.status_code == 200
        token = page.text.partition('name="token" value="')[2].partition('"')[0]
        for form, headers, status in (
            ({"token": "x"}, own, 403),
            ({"other": token}, own, 403),
            ({"token": token}, own | {"origin": f"http://{OUTSIDE}"}, 403),
            ({"token": token}, {"origin": served.address}, 403),
            ({"token": token, "more": "x" * 20_000}, own, 413),
            ({"token": token}, own, 303),
        ):
            answer = served.client.post("/logout", data=form, headers=headers)
            assert answer.status_code == status
            assert ("set-cookie" in answer.headers) == (status == 303)
        assert served.client.get("/logout", headers=own).status_code == 405
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
