"""`polysilicon pool join`: this machine, or an engine on it, as a pool of a running gateway."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from polysilicon.catalog.offers import Price
from polysilicon.cli.output import emit_json, json_option, out, progress
from polysilicon.cli.pool_options import key_option, read_key
from polysilicon.errors import InputError

if TYPE_CHECKING:
    from polysilicon.gateway.joined.serving import Joined


@click.command(
    name="join", epilog="Example:  polysilicon pool join http://127.0.0.1:8000 --name node-7"
)
@click.argument("gateway")
@key_option
@click.option("--name", help="Name of the pool; by default the host's.")
@click.option("--offer", help="That the machine is of, such as aws/m9g.2xlarge; by default what "
              "the firmware says, or else it is priced as the offer most like it.")  # fmt: skip
@click.option("--region", default="", help="Where it is.")
@click.option("--price", type=click.Choice(get_args(Price)), default="on-demand",
              show_default=True, help="Which of the offer's prices holds.")  # fmt: skip
@click.option("--strict", is_flag=True, help="Refuse a machine that is not as its offer says.")
@click.option("--serves", type=click.Choice(["models", "code"]), help="What alone it does: answer "
              "with a model, or run sandboxed code. By default both.")  # fmt: skip
@click.option("--model", help="Model that it serves. Default: smollm2-135m-instruct.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="URL", help="An engine that is "
              "there already, with /v1, such as one of `pool start`; --model is what it calls its "
              "own. Repeatable, for copies of one model.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 4096), default=8, show_default=True,
              help="Steps at once.")  # fmt: skip
@click.option("--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where the gateway finds this machine; a key is made for it.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default, is any.")
@click.option("--folder", type=Path, default=None, help="Journal and log; default runs/pool-NAME.")
@json_option
def command(gateway: str, key_file: Path | None, as_json: bool, **options: Any) -> None:
    """Serve the gateway at the address GATEWAY with this machine, until Ctrl-C.

    The gateway is asked whether it takes the machine; then that is measured, unless it was before
    (`polysilicon calibrate`).
    """
    import psutil  # noqa: PLC0415 - heavy, and not for --help
    import uvloop  # noqa: PLC0415

    from polysilicon.gateway.joined.asking import Wanted, ask  # noqa: PLC0415
    from polysilicon.gateway.joined.joiner import check_gateway  # noqa: PLC0415

    if options["endpoints"] and not options["model"]:
        raise InputError("--endpoint needs --model", mend="give the model's name there")
    if options["serves"] == "code" and options["model"]:
        raise InputError("a machine that runs code alone has no --model", mend="leave it out")
    said = progress()

    def tell(text: str) -> None:
        said.print(text, markup=False, soft_wrap=True, style="dim")

    def joined(found: Joined) -> None:
        if as_json:
            emit_json(found)
            sys.stdout.flush()
            return
        out().print(_words(found), markup=False, soft_wrap=True)

    wanted = Wanted(gateway=check_gateway(gateway), key=read_key(key_file), **options)
    began_s = psutil.Process().create_time()

    async def work() -> None:
        asked = await ask(wanted, tell)
        from polysilicon.gateway.joined.serving import join  # noqa: PLC0415 - heavy: a second

        await join(asked, tell, joined, lambda: time.time() - began_s)

    uvloop.run(work())


def _words(found: Joined) -> str:
    """Return what is said once a machine has joined."""
    code = f"code ({', '.join(found.sandboxes)})" if found.sandboxes else ""
    what = " and ".join(filter(None, (found.model, code)))
    text = f"{found.pool} serves {what} to {found.gateway} ({found.offer}); "
    differs = [f"not as declared: {m.what} is {m.found}, {m.declared} declared"
               for m in found.mismatches]  # fmt: skip
    first = f"{text}found here: {found.processor}; joined in {found.seconds:.1f} s"
    return "\n".join([first, *differs, "Ctrl-C leaves"])
