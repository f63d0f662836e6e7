"""Files of placements: what `polysilicon place --json` prints."""

from __future__ import annotations

from pathlib import Path

import msgspec

from polysilicon.disk import unread
from polysilicon.errors import InputError
from polysilicon.placement.types import Placement

MOST_BYTES = 64 * 2**20


def read_placement(path: Path) -> Placement:
    """Read what `polysilicon place --json` printed.

    Raises:
        InputError: no such file, too large, or no placement.
    """
    mend = "give what `polysilicon place WORKLOAD --json` prints"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"larger than {MOST_BYTES:,} bytes", where=str(path), mend=mend)
        return msgspec.json.decode(path.read_bytes(), type=Placement)
    except OSError as error:
        raise unread(path, error, mend) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"no placement: {error}", where=str(path), mend=mend) from error
    except RecursionError as error:
        raise InputError("nested too deeply", where=str(path), mend=mend) from error
