"""Write the measurement tables that the laws of accelerators are fitted on.

    python tools/measurements.py FOLDER

FOLDER holds the sources' files: `llm_gpu/measurements.csv`, `llm_gpu/aiconfigurator_core.csv` (in
the same columns; may be missing) and `accelerators/*.csv`. The tables go to
`src/polysilicon/cost/data/measurements`; its README says what each column rests on.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

OUT = Path(__file__).parents[1] / "src" / "polysilicon" / "cost" / "data" / "measurements"
COLUMNS = [
    "source",
    "date",
    "instance",
    "processor",
    "count",
    "engine",
    "engine_version",
    "model",
    "precision",
    "tp",
    "pp",
    "dp",
    "ep",
    "concurrency",
    "prompt_tokens",
    "output_tokens",
    "ttft_ms",
    "tpot_ms",
    "prefill_tokens_per_s",
    "decode_tokens_per_s",
]

Row = dict[str, object]

ALONE: Row = {"tp": 1, "pp": 1, "dp": 1, "ep": 1}

GPU_SYSTEMS = {
    "h100_sxm": "NVIDIA H100 SXM5 80GB",
    "h200_sxm": "NVIDIA H200 SXM 141GB",
    "b200_sxm": "NVIDIA B200",
    "b300_sxm": "NVIDIA B300",
}
ARGONNE_CHIPS = {
    "Nvidia A100 GPU": "NVIDIA A100 SXM4 40GB",
    "Nvidia H100 GPU": "NVIDIA H100 SXM5 80GB",
    "Nvidia GH200 GPU": "NVIDIA GH200 96GB",
    "AMD MI250 GPU": "AMD Instinct MI250",
    "AMD MI300X GPU": "AMD Instinct MI300X",
    "Habana Gaudi2": "Intel Gaudi 2",
    "Intel PVC GPU": "Intel Data Center GPU Max 1550",
    "Intel Max 1550": "Intel Data Center GPU Max 1550",
    "SambaNova SN40L": "SambaNova SN40L",
}
ARGONNE_ENGINES = {
    "vLLM": "vllm",
    "TensorRT-LLM": "trtllm",
    "Deepspeed": "deepspeed",
    "Deepspeed-MII": "deepspeed-mii",
    "llama.cpp": "llama.cpp",
    "sambaflow": "sambaflow",
}
TPUS = {
    "TPU v6e (Trillium)": "Google TPU v6e (Trillium)",
    "TPU7x (Ironwood)": "Google TPU v7 (Ironwood)",
}
# What the recipes beside the results say: precision, requests that run at once.
TPU_RUNS = {
    "Llama-3.3-70B-Instruct": ("bf16", None),
    "Qwen3-Coder-480B-A35B": ("fp8", 64),
    "Qwen3.5-397B": ("fp8", 64),
    "Qwen3-32B": ("fp8", 135),
}
XEONS = {
    "Intel Xeon Platinum 8480+": "Intel Xeon Platinum 8480+ (Sapphire Rapids)",
    "Intel Xeon Platinum 8580": "Intel Xeon Platinum 8580 (Emerald Rapids)",
    "Intel Xeon 6972P": "Intel Xeon 6972P (Granite Rapids)",
}
# The catalog's names of models whose published names do not lead there.
MODELS = {
    "llama-2-7b-hf": "llama-2-7b",
    "llama-2-7b-chat-hf": "llama-2-7b",
    "llama-2-70b-hf": "llama-2-70b",
    "meta-llama-3-8b": "llama-3-8b",
    "meta-llama-3-8b-instruct": "llama-3-8b",
    "meta-llama-3-70b": "llama-3-70b",
    "codellama-13b-hf": "codellama-13b",
    "qwen3-coder-480b-a35b": "qwen3-coder-480b-a35b-instruct",
    "qwen3.5-397b": "qwen3.5-397b-a17b",
    "qwen3-235b-a22b-fp8": "qwen3-235b-a22b",
    "deepseek-r1-nvfp4": "deepseek-r1",
    "deepseek-v3.1-nvfp4": "deepseek-v3.1",
    "llama-3.1-8b-instruct-fp8": "llama-3.1-8b-instruct",
    "qwen3-32b-nvfp4": "qwen3-32b",
}


def model_name(published: str) -> str:
    """Return the catalog's name of a model."""
    plain = published.rpartition("/")[2].casefold()
    return MODELS.get(plain, plain)


def rounded(value: float) -> str:
    """Write a figure with six significant digits."""
    return f"{value:.6g}"


def read(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def gpu_serving(folder: Path) -> Iterator[Row]:
    """Serving runs of AIConfigurator's silicon_sample.csv, names translated."""
    return served(folder / "llm_gpu" / "measurements.csv")


def gpu_serving_more(folder: Path) -> Iterator[Row]:
    """Further serving runs, of aiconfigurator-core 0.12.0, in the columns of the first ones.

    Rows without a number of accelerators, and those of GB200, whose numbers are sums over several
    copies of the model, are left out.
    """
    path = folder / "llm_gpu" / "aiconfigurator_core.csv"
    rows = read(path) if path.exists() else []
    chosen = [row for row in rows if row["count"] != "0" and row["processor"] != "gb200"]
    return served_rows(chosen)


def served(path: Path) -> Iterator[Row]:
    """Serving runs of a file."""
    return served_rows(read(path))


def served_rows(rows: Iterable[dict[str, str]]) -> Iterator[Row]:
    """Serving runs, names translated."""
    for row in rows:
        yield {
            **row,
            "source": f"ai-dynamo/aiconfigurator {row['source'].split()[-1]}",
            "processor": GPU_SYSTEMS.get(row["processor"], row["processor"]),
            "model": model_name(row["model"]),
            "ep": row["ep"] if row["ep"] != "0" else "1",
            "ttft_ms": rounded(float(row["ttft_ms"])),
            "tpot_ms": rounded(float(row["tpot_ms"])),
        }


def argonne(folder: Path) -> Iterator[Row]:
    """Static batches of LLM-Inference-Bench.

    `Latency` is that of the whole batch, prompt and output of the same length. All engines but
    llama.cpp ran the batch at once. With llama.cpp the batch size is `llama-bench -b`, which only
    cuts the prompt into pieces of that many tokens: one sequence runs. Its rows with pieces of 64
    tokens, the largest, are taken, the others left out.
    """
    for number, row in enumerate(read(folder / "accelerators" / "argonne_all_results.csv"), 2):
        engine = ARGONNE_ENGINES[row["Framework"]]
        batch, length = int(row["Batch Size"]), int(row["Input Output Length"])
        if engine == "llama.cpp" and batch != 64:
            continue
        count = int(row["Num of Hardware"])
        sequences = 1 if engine == "llama.cpp" else batch
        split = "pp" if engine == "llama.cpp" else "tp"
        yield {
            "source": f"argonne:{number}",
            "date": "2024-10",
            "processor": ARGONNE_CHIPS[row["Hardware"]],
            "count": count,
            "engine": engine,
            "model": model_name(row["Model"]),
            "precision": "fp16",
            **ALONE,
            split: count,
            "concurrency": sequences,
            "prompt_tokens": length,
            "output_tokens": length,
            "decode_tokens_per_s": rounded(sequences * length / float(row["Latency"])),
        }


def neuron(folder: Path) -> Iterator[Row]:
    """Decoders on Trainium1 and Inferentia2, each with two NeuronCores a chip."""
    for chip, host in (("AWS Inferentia2", "inf2"), ("AWS Trainium1", "trn1")):
        for kind in ("latency", "throughput"):
            name = f"{host}_{kind}_decoder.csv"
            for number, row in enumerate(read(folder / "accelerators" / name), 2):
                cores = int(row["TP Degree"])
                yield {
                    "source": f"{host}-{kind}:{number}",
                    "date": "2024",
                    "instance": f"aws/{row['Inst. Type'].casefold()}",
                    "processor": chip,
                    "count": cores // 2,
                    "engine": "neuron",
                    "engine_version": row["Neuron Version"],
                    "model": model_name(row["Model"]),
                    "precision": row["Weight Storage Data Type"],
                    **ALONE,
                    "tp": cores,
                    "concurrency": row["Batch Size"],
                    "prompt_tokens": row["Input Length"],
                    "output_tokens": row["Output Length"],
                    "ttft_ms": rounded(float(row["TTFT Latency P50 (ms)"])),
                    "tpot_ms": rounded(float(row["TPOT Latency P50 (ms)"])),
                    "decode_tokens_per_s": rounded(
                        float(row["Output Token Throughput (tokens/sec)"])
                    ),
                }


def tpu(folder: Path) -> Iterator[Row]:
    """Serving runs of the TPU recipes; v7 has two cores a chip, each a rank."""
    for row in read(folder / "accelerators" / "tpu_results.csv"):
        precision, running = TPU_RUNS[row["model"].rpartition("/")[2]]
        count = int(row["n_chips"])
        ranks = count * (2 if "7x" in row["chip"] else 1)
        yield {
            "source": row["id"],
            "date": "2026-03" if "7x" in row["chip"] else "",
            "processor": TPUS[row["chip"]],
            "count": count,
            "engine": "vllm",
            "model": model_name(row["model"]),
            "precision": precision,
            **ALONE,
            "tp": ranks,
            "concurrency": row["max_concurrency"] or running,
            "prompt_tokens": row["input_len"],
            "output_tokens": row["output_len"],
            "ttft_ms": row["median_ttft_ms"],
            "tpot_ms": row["median_tpot_ms"],
            "decode_tokens_per_s": row["output_tok_per_s_total"],
        }


def xeon_serving(folder: Path) -> Iterator[Row]:
    """Load curves of OpenVINO model server on Xeons.

    Tokens and requests in flight are not told. The mean number of sequences that decode at once is
    their output rate times the time that each takes for a token (Little's law).
    """
    name = "openvino_xeon_load_curves.csv"
    for number, row in enumerate(read(folder / "accelerators" / name), 2):
        if row["platform"] not in XEONS:
            continue
        model, precision = row["model"].split()
        rate, tpot_ms = float(row["throughput_tok_s"]), float(row["latency_ms_per_token"])
        yield {
            "source": f"openvino:{number}",
            "processor": XEONS[row["platform"]],
            "engine": "openvino",
            "model": model_name(model),
            "precision": precision.casefold(),
            "concurrency": rounded(rate * tpot_ms / 1000.0),
            "tpot_ms": rounded(tpot_ms),
            "decode_tokens_per_s": rounded(rate),
        }


TABLES = {
    "gpu_serving.csv": gpu_serving,
    "gpu_serving_more.csv": gpu_serving_more,
    "argonne.csv": argonne,
    "tpu.csv": tpu,
    "xeon_serving.csv": xeon_serving,
    "cc_by_sa/neuron.csv": neuron,
}


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write a table; returns its rows."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(row)
            count += 1
    return count


def main() -> None:
    """Write all tables."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for name, rows in TABLES.items():
        print(f"{name}: {write(OUT / name, rows(Path(sys.argv[1])))} rows")


if __name__ == "__main__":
    main()
