"""The tables of measurements that come with Polysilicon, as cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.resources.abc import Traversable

from polysilicon.catalog.catalog import Catalog
from polysilicon.catalog.measurements import Measurement, read_measurements
from polysilicon.catalog.tables import data_folder
from polysilicon.cost.fit.cases import Case
from polysilicon.cost.llm.setting import engine_of, split_for
from polysilicon.cost.types import Serving
from polysilicon.errors import PolysiliconError

SERVED = "gpu_serving.csv"
SERVED_MORE = "gpu_serving_more.csv"
OTHERS = ("argonne.csv", "cc_by_sa/neuron.csv", "tpu.csv")
# Where the labels of ranks were multiplied with each other; see `mend_ranks`.
MULTIPLIED = "ai-dynamo/aiconfigurator"


def folder() -> Traversable:
    """Return the folder of the tables."""
    return data_folder("polysilicon.cost") / "measurements"


def served_cases(catalog: Catalog, table: str = SERVED) -> tuple[list[Case], Counter[str]]:
    """Return the cases of served load on GPUs, and the reasons for rows left out, counted."""
    return _cases(read_measurements(folder() / table), catalog)


def other_cases(catalog: Catalog) -> tuple[list[Case], Counter[str]]:
    """Return the cases of static batches and of other accelerators, and reasons as above."""
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    for name in OTHERS:
        table = folder()
        for part in name.split("/"):
            table = table / part
        found, reasons = _cases(read_measurements(table), catalog)
        cases += found
        left_out += reasons
    return cases, left_out


def _cases(rows: Iterable[Measurement], catalog: Catalog) -> tuple[list[Case], Counter[str]]:
    """Return rows as cases, and the reasons for those left out, counted."""
    cases: list[Case] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        try:
            case = case_of(row, catalog)
            case.work()
        except PolysiliconError as error:
            left_out[str(error)] += 1
            continue
        cases.append(case)
    return cases, left_out


def case_of(row: Measurement, catalog: Catalog) -> Case:
    """Return a measured row as a case of the serving law.

    Args:
        row: of accelerators.
        catalog: models, processors, precisions.

    Raises:
        InputError: an unknown name, or a parallelism that cannot be.
        NoBasisError: what the law needs is not told.
    """
    model, chip = catalog.model(row.model), catalog.processor(row.processor)
    engine = engine_of(chip, row.engine)
    multiplied = row.source.startswith(MULTIPLIED)
    gpus, serving, concurrency = mend_ranks(row) if multiplied else _told(row)
    # A run that names no precision is of the model as it was published.
    precision = catalog.precision(row.precision or model.published_precision)
    split = split_for(model, chip, engine, catalog.precisions[precision], serving, gpus)
    output = float(row.output_tokens or 0)
    ttft_s, tpot_s, span_s = None, None, None
    if row.ttft_ms is not None or row.tpot_ms is not None:
        ttft_s = None if row.ttft_ms is None else row.ttft_ms / 1e3
        tpot_s = None if row.tpot_ms is None else row.tpot_ms / 1e3
    elif row.decode_tokens_per_s is not None:
        span_s = concurrency * output / row.decode_tokens_per_s
    static = row.source.startswith("argonne")
    return Case(
        row=row.row,
        source=row.source,
        date=row.date,
        model=model,
        chip=chip,
        engine=engine.engine,
        precision=precision,
        split=split,
        concurrency=concurrency,
        new=float(row.prompt_tokens or 1),
        output=output,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        cycle_s=None if static else span_s,
        batch_s=span_s if static else None,
    )


def _told(row: Measurement) -> tuple[int, Serving, float]:
    """Return accelerators, ranks and steps at once as the row tells them."""
    gpus = row.count or row.tp or 1
    # Neuron counts cores as ranks of tensor parallelism, several of them a chip.
    tp = row.tp if row.tp is not None and row.tp <= gpus else None
    ranks = row.dp if row.dp is not None and row.dp <= gpus else None
    serving = Serving(tp=tp, pp=row.pp, dp=ranks, ep=row.ep or None)
    return gpus, serving, row.concurrency or 1.0


def mend_ranks(row: Measurement) -> tuple[int, Serving, float]:
    """Return accelerators, ranks and steps at once of a row whose labels were multiplied.

    In that source the steps at once are those of one data-parallel rank. Rows labelled with 16 or
    64 accelerators, and those with ranks of both kinds, list runs again that stand elsewhere in it
    with 4, 8 or 2 accelerators and the very same times: their labels are ranks times ranks.
    """
    tp, dp, ep = row.tp or 1, row.dp or 1, row.ep or 1
    gpus, ranks = tp, 1
    if tp == 1 and dp > 1:
        gpus = ranks = ep if ep > 1 else dp
    elif dp > 1:
        gpus = ranks = dp
    elif tp > 8 and ep * ep == tp:
        gpus = ep
    serving = Serving(dp=ranks if ranks > 1 else None, ep=min(ep, gpus) if ep > 1 else None)
    return gpus, serving, (row.concurrency or 1.0) * dp
