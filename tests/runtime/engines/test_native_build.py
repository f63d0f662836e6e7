from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest

from polysilicon.catalog.machine import Machine, detect
from polysilicon.errors import EngineError, PolysiliconError
from polysilicon.runtime.engines.native import build, compiler, source
from polysilicon.runtime.engines.native.ceilings import peak_rate
from polysilicon.runtime.engines.native.library import ggml_version
from polysilicon.runtime.engines.native.quality import Reading

ODD = Machine(cpu="Odd 1", arch="vax", cores=1, memory_bytes=1)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POLYSILICON_HOME", str(tmp_path))
    return tmp_path


def archive(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as files:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            files.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            files.addfile(info)
    return path


def test_the_sources_of_this_wheel_are_known():
    assert ggml_version() in source.SOURCES


def test_where_kernels_cannot_be_built(cache, monkeypatch):
    assert "vax" in build.cannot(ODD)
    with pytest.raises(PolysiliconError, match="no kernels of its own for vax"):
        build.build(ODD, cache / "m.gguf", lambda *_: None)
    monkeypatch.setattr(build, "ggml_version", lambda: "9.9.9")
    assert "no sources are known of ggml 9.9.9" in build.cannot(detect())
    assert list(cache.iterdir()) == []


def test_only_sources_below_the_folder_are_unpacked(tmp_path):
    members = {
        "p-1/ggml/src/a.c": b"int a;",
        "p-1/ggml/include/a.h": b"int b;",
        "p-1/ggml/src/run.sh": b"rm",
        "p-1/other/b.c": b"int c;",
    }
    made = archive(tmp_path / "p.tar.gz", members, {"p-1/ggml/src/l.c": "/etc/passwd"})
    source._unpack(made, "ggml", tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert found == {"src/a.c", "include/a.h"}


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path):
    made = archive(tmp_path / "p.tar.gz", {"p-1/ggml/../../x.c": b"int a;"})
    with pytest.raises(tarfile.TarError):
        source._unpack(made, "ggml", tmp_path / "out")
    assert not (tmp_path / "x.c").exists()


def test_an_archive_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_MOST_BYTES", 10)
    made = archive(tmp_path / "p.tar.gz", {"p-1/ggml/x.c": b"int a;" * 5})
    with pytest.raises(tarfile.TarError):
        source._unpack(made, "ggml", tmp_path / "out")


def test_a_build_that_fails_leaves_what_was_there(cache, monkeypatch):
    machine = detect()
    before = build.library_path(machine)
    before.parent.mkdir(parents=True)
    before.write_bytes(b"kernels")

    def fetch(_source, _folder):
        raise PolysiliconError("cannot download it")

    monkeypatch.setattr(build, "fetch", fetch)
    with pytest.raises(PolysiliconError, match="cannot download"):
        build.build(machine, cache / "m.gguf", lambda *_: None)
    assert [path.name for path in before.parent.iterdir()] == [before.name]
    assert build.find(machine).path == str(before)


def test_a_build_that_crashes_in_its_probe_is_not_kept(cache, monkeypatch):
    """As one with instructions that this CPU lacks does; what was there before serves on."""
    machine = detect()
    before = build.library_path(machine)
    before.parent.mkdir(parents=True)
    before.write_bytes(b"kernels")

    def compiled(_sources, _source, _compiler, work, _progress):
        made = work / build.LIBRARY
        made.write_bytes(b"new kernels")
        return made

    def run(job, _type):
        if job.kernels is not None:
            raise EngineError("died of SIGILL")
        return Reading(log_probability=[-1.0] * 9, likeliest=[1] * 9, lead=[2.0] * 9)

    monkeypatch.setattr(build, "fetch", lambda _source, folder: folder)
    monkeypatch.setattr(build, "compile_kernels", compiled)
    monkeypatch.setattr(build.child, "run", run)
    with pytest.raises(EngineError, match="died of SIGILL"):
        build.build(machine, cache / "m.gguf", lambda *_: None)
    assert before.read_bytes() == b"kernels"
    assert [path.name for path in before.parent.iterdir()] == [before.name]


def test_kernels_of_another_recipe_are_not_found(cache, monkeypatch):
    """A version that compiles something else builds anew, and what it had is left to serve."""
    machine = detect()
    path = build.library_path(machine)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"kernels")
    assert build.find(machine) is not None
    monkeypatch.setattr(build, "_own", lambda _name: b"other")
    build.recipe.cache_clear()
    assert build.find(machine) is None
    assert path.is_file()
    monkeypatch.undo()
    build.recipe.cache_clear()


def test_kernels_of_another_cpu_are_not_found(cache):
    machine = detect()
    path = build.library_path(machine)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"kernels")
    assert build.find(machine) is not None
    assert build.find(msgspec.structs.replace(machine, isa_flags=frozenset({"sse2"}))) is None
    assert build.find(msgspec.structs.replace(machine, cpu="another")) is None


def test_kernels_that_compute_something_else_are_refused(monkeypatch):
    right = Reading(log_probability=[-1.0] * 9, likeliest=[1] * 9, lead=[2.0] * 9)
    wrong = Reading(log_probability=[-1.0] * 9, likeliest=[2] * 9, lead=[2.0] * 9)
    readings = {None: right, "same.so": right, "other.so": wrong}
    monkeypatch.setattr(build.child, "run", lambda job, _type: readings[job.kernels])
    assert build.check(Path("same.so"), Path("m.gguf"), 2).same == 1
    with pytest.raises(EngineError, match="compute something else"):
        build.check(Path("other.so"), Path("m.gguf"), 2)


def test_a_file_that_does_not_compile_is_told(tmp_path, monkeypatch):
    found = compiler.find_compiler(tmp_path, detect())
    (tmp_path / "bad.c").write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr(build, "source_files", lambda _sources, _arch: [tmp_path / "bad.c"])
    known = next(iter(source.SOURCES.values()))
    with pytest.raises(PolysiliconError, match=r"bad\.c does not compile with .*nothing"):
        build.compile_kernels(tmp_path, known, found, tmp_path, lambda *_: None)


def test_the_peak_is_measured_where_the_cpu_has_instructions_for_it(tmp_path, monkeypatch):
    """The peak's kernel is compiled as a build compiles it, and finds a rate or none."""
    found = compiler.find_compiler(tmp_path, detect())
    monkeypatch.setattr(build, "source_files", lambda _sources, _arch: [])
    monkeypatch.setattr(build, "_OWN", ("peak.c",))
    known = next(iter(source.SOURCES.values()))
    made = build.compile_kernels(tmp_path, known, found, tmp_path, lambda *_: None)
    rate = peak_rate(made, 1)
    has = {"amx_int8", "avx512_vnni", "avx2", "i8mm", "asimddp"} & detect().isa_flags
    assert (rate is not None and rate > 1e9) if has else rate is None
