"""`polysilicon calibrate`: measures this machine and saves its profile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.table import Table

from polysilicon import units
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.errors import InputError, PolysiliconError

if TYPE_CHECKING:
    from polysilicon.catalog.machine import Machine
    from polysilicon.cost.profile import LlmProfile, Profile

SERVER_SLOTS = 8
"""Steps at once of a server where nobody tells: those of its recipe."""

BUSY = 0.1
"""Share of the machine that others used from which on a warning is due."""


@click.command(name="calibrate", epilog="Example:  polysilicon calibrate --json > calibrate.json")
@click.option("--model", help="Model name, .gguf path or URL. Default: smollm2-135m-instruct.")
@click.option("--endpoint", help="Measure the engine that serves at this port of loopback instead, "
              "and add it to the profile.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 4096), help="Steps at once that the engine "
              "behind --endpoint was started for; default 8.")  # fmt: skip
@json_option
def command(
    model: str | None, endpoint: str | None, concurrency: int | None, as_json: bool
) -> None:
    """Measure this machine in under three minutes and save its profile.

    Core speed, memory bandwidth, sandboxes, search, how the engine is fastest, and the local model
    at several batch sizes and contexts. `local` is estimated by it from then on. Nothing else
    should run meanwhile. Ctrl-C keeps the profile that was there before. With --endpoint another
    engine is measured beside the local one, such as that of `pool start vllm-cpu`; from then on
    steps of its model are estimated with the one that takes less of the machine.
    """
    from polysilicon.catalog.machine import detect  # noqa: PLC0415 - heavy, and not for --help
    from polysilicon.cli.running import fetch_model  # noqa: PLC0415
    from polysilicon.cost.profile import profile_path, write_profile  # noqa: PLC0415
    from polysilicon.cost.profile_found import find_profile  # noqa: PLC0415
    from polysilicon.runtime.calibration.measure import calibrate  # noqa: PLC0415
    from polysilicon.runtime.calibration.rows import write_rows  # noqa: PLC0415

    said, machine = _Said(), detect()
    if endpoint is None and concurrency is not None:
        raise InputError("--concurrency is of an engine behind --endpoint", mend="leave it out")
    if endpoint is not None:
        asked = endpoint, model, concurrency or SERVER_SLOTS
        profile, elsewhere = _with_server(machine, asked, said)
    else:
        fetch_model(model, None)
        profile = asyncio.run(calibrate(machine, model, said.tell))
        with suppress(InputError):  # a broken profile is measured anew
            before = find_profile(machine).profile
            servers = before.servers if before is not None else ()
            profile = msgspec.structs.replace(profile, servers=servers)
        elsewhere = profile.elsewhere
        for part, reason in profile.failed.items():
            said.line(f"{part} could not be measured: {reason}")
    if elsewhere > BUSY:
        share = units.share(elsewhere)
        said.line(f"other programs used {share} of the machine; calibrate again when it is idle")
    if profile.core_speed is None and not profile.llm:
        raise PolysiliconError("nothing of use could be measured; no profile was saved")
    path = profile_path()
    write_profile(profile, path)
    rows = write_rows(profile, path)
    if as_json:
        emit_json(as_keys(profile, path) | {"elsewhere": elsewhere})
        return
    _print(profile, path, rows)


def _with_server(
    machine: Machine, asked: tuple[str, str | None, int], said: _Said
) -> tuple[Profile, float]:
    """Return the saved profile with what another engine on this machine does.

    Args:
        machine: this one.
        asked: endpoint, model, and steps at once.
        said: tells what is being measured.

    Returns:
        The profile, and the share of the machine that other programs used meanwhile.

    Raises:
        InputError: there is no profile of this machine, or no engine at the endpoint.
    """
    from polysilicon.cost.profile import profile_path, read_profile  # noqa: PLC0415 - heavy
    from polysilicon.cost.profile_found import find_profile  # noqa: PLC0415
    from polysilicon.runtime.calibration.server import measure_server, told_by  # noqa: PLC0415

    endpoint, model, at_once = asked
    if find_profile(machine).profile is None:
        raise InputError("this machine has no profile", mend="run `polysilicon calibrate` first")
    told = told_by(endpoint, model)
    found, elsewhere = asyncio.run(
        measure_server(endpoint, told, at_once, machine.cores, said.tell)
    )
    # All that the file holds stays, also what holds only for an engine that is not set up now.
    before = read_profile(profile_path())
    same = found.engine, found.model
    kept = [one for one in before.servers if (one.engine, one.model) != same]
    return msgspec.structs.replace(before, servers=(*kept, found)), elsewhere


class _Said:
    """Progress on stderr, a line for each thing that is measured."""

    def __init__(self) -> None:
        self._console = progress()

    def tell(self, part: str, what: str) -> None:
        """Say what is being measured now."""
        self.line(f"{part}: {what}" if what else part)

    def line(self, text: str) -> None:
        """Print a line as it is."""
        self._console.print(text, markup=False, style="dim")


def as_keys(profile: Profile, path: Path) -> dict[str, Any]:
    """Return a profile under the names that scripts rely on, and all of it under `profile`."""
    speed, memory = profile.core_speed, profile.memory_bandwidth
    return {
        "processor": profile.cpu,
        "cores": profile.cores,
        "llm": {
            name: {
                "prefill_tokens_per_s": llm.prefill_tokens_per_s,
                "decode_tokens_per_s": llm.decode_tokens_per_s,
            }
            for name, llm in profile.llm.items()
        },
        "servers": [
            {
                "engine": llm.engine,
                "model": llm.model,
                "prefill_tokens_per_s": llm.prefill_tokens_per_s,
                "decode_tokens_per_s": llm.decode_tokens_per_s,
            }
            for llm in profile.servers
        ],
        "core_speed": speed.relative if speed is not None else None,
        "core_speed_mbs": speed.one_mbs.median if speed is not None else None,
        "core_speed_all_mbs": speed.all_mbs.median if speed is not None else None,
        "memory_bandwidth_gbs": memory.triad_gbs.median if memory is not None else None,
        "elsewhere": profile.elsewhere,
        "failed": profile.failed,
        "seconds": profile.seconds,
        "path": str(path),
        "profile": msgspec.to_builtins(profile),
    }


def _print(profile: Profile, path: Path, rows: Path | None) -> None:
    """Print what was measured."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what", style="dim", no_wrap=True)
    table.add_column("value", overflow="fold")
    for what, value in lines(profile):
        table.add_row(what, value)
    console = out()
    console.print(table)
    for name, llm in profile.llm.items():
        console.print()
        console.print(_llm_table(name, llm))
    for llm in profile.servers:
        console.print()
        console.print(_llm_table(f"{llm.model} in {llm.engine} {llm.engine_version}", llm))
    console.print(f"\nprofile: {path}", markup=False)
    if rows is not None:
        console.print(f"measurements: {rows}", markup=False)


def lines(profile: Profile) -> list[tuple[str, str]]:
    """Return what was measured besides the model, as a person reads it."""
    found = [("processor", f"{profile.cpu or profile.arch}, {profile.cores} cores")]
    speed, memory = profile.core_speed, profile.memory_bandwidth
    if speed is not None:
        text = f"{speed.one_mbs.median:.1f} MB/s of text compressed"
        found.append(("core speed", f"{text}; {speed.kept:.0%} of that with all cores busy"))
    if speed is not None and speed.relative is not None:
        band = f"{speed.relative_low:.2f} to {speed.relative_high:.2f}"
        found.append(("", f"about {speed.relative:.2f} times AWS Graviton3 ({band})"))
    if memory is not None:
        text = f"{memory.copy_gbs.median:.1f} GB/s copy, {memory.triad_gbs.median:.1f} GB/s triad"
        found.append(("memory bandwidth", text))
    for name, box in profile.sandboxes.items():
        text = f"{units.seconds(box.run_s.median)} a run, {units.seconds(box.first_s)} the first"
        found.append((f"sandbox {name}", text))
    if profile.search is not None:
        query_s = units.seconds(profile.search.query_s.median)
        found.append(("search", f"{query_s} a query in {profile.search.documents} documents"))
    for name, train in profile.train.items():
        text = f"{train.tokens_per_s.median:.0f} tokens/s of {name}, {train.precision}"
        found.append(("training adapters", text))
    return [*found, ("measured in", units.seconds(profile.seconds))]


def _llm_table(name: str, llm: LlmProfile) -> Table:
    """Return what the model does: tokens a second by prompt, and by sequences at once."""
    table = Table(box=None, pad_edge=False, title=name, title_justify="left")
    for head in ("prompt", "cached", "tokens/s", "", "at once", "context", "tokens/s"):
        table.add_column(head, justify="right")
    decode = [
        (str(p.sequences), f"{p.context_tokens:.0f}", f"{p.sequences / p.seconds.median:.0f}")
        for p in llm.decode
    ]
    prefill = [
        (str(p.new_tokens), str(p.cached_tokens), f"{p.new_tokens / p.seconds.median:.0f}")
        for p in llm.prefill
    ]
    for number in range(max(len(decode), len(prefill))):
        left = prefill[number] if number < len(prefill) else ("",) * 3
        right = decode[number] if number < len(decode) else ("",) * 3
        table.add_row(*left, "", *right)
    if llm.trial is not None:
        table.caption = (
            f"of {llm.trial.steps} mixed steps the median was predicted to "
            f"{llm.trial.median_error:.0%}"
        )
        table.caption_justify = "left"
    return table
