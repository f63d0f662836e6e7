"""How long a step takes, how dear it is, and how sure that is; the only place that knows."""

from __future__ import annotations

from polysilicon.cost.elsewhere import Elsewhere, Refused, elsewhere
from polysilicon.cost.energy import share_joules
from polysilicon.cost.estimate import estimate
from polysilicon.cost.money import share_usd
from polysilicon.cost.types import Basis, Estimate, Load

__all__ = [
    "Basis",
    "Elsewhere",
    "Estimate",
    "Load",
    "Refused",
    "elsewhere",
    "estimate",
    "share_joules",
    "share_usd",
]
