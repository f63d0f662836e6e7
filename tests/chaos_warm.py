"""Imported once by the process that starts of runs are forked from: what each would load again.

The compiled rules take half a second to load, and pyarrow loads pandas where it is installed.
"""

from __future__ import annotations

import importlib
from contextlib import suppress

from polysilicon import catalog
from polysilicon.runtime.dispatch import load_rules
from polysilicon.runtime.loader import load_agent

load_rules(choosing=True)
catalog.load()
for name in ("support", "coder", "researcher", "pipeline"):
    load_agent(name)
for module in ("pandas", "polysilicon.runtime.engines.openai", "polysilicon.runtime.run"):
    with suppress(ImportError):
        importlib.import_module(module)
