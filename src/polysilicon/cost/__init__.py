"""How long a step takes, how dear it is, and how sure that is; the only place that knows."""

from __future__ import annotations

from polysilicon.cost.batch import Batch, batch_of
from polysilicon.cost.bulk import estimate_all
from polysilicon.cost.elsewhere import Elsewhere, Refused, elsewhere
from polysilicon.cost.energy import share_joules
from polysilicon.cost.estimate import estimate
from polysilicon.cost.estimates import REFUSED, Estimates
from polysilicon.cost.money import share_usd
from polysilicon.cost.types import Basis, Estimate, Load, Serving

__all__ = [
    "REFUSED",
    "Basis",
    "Batch",
    "Elsewhere",
    "Estimate",
    "Estimates",
    "Load",
    "Refused",
    "Serving",
    "batch_of",
    "elsewhere",
    "estimate",
    "estimate_all",
    "share_joules",
    "share_usd",
]
