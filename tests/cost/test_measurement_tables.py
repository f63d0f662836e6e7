from __future__ import annotations

import csv
import runpy
from importlib.resources import files
from pathlib import Path

import pytest

from polysilicon import catalog
from polysilicon.catalog.measurements import COLUMNS, read_measurements

FOLDER = Path(str(files("polysilicon.cost") / "data" / "measurements"))
ROOT = Path(__file__).parents[2]
ROWS = {
    "gpu_serving.csv": 1250,
    "gpu_serving_more.csv": 1791,
    "argonne.csv": 3580,
    "tpu.csv": 10,
    "xeon_serving.csv": 84,
    "cc_by_sa/neuron.csv": 90,
}
# Models whose shapes were not found where they could be checked.
WITHOUT_SHAPES = {"decilm-7b", "aquila-7b", "qwen1.5-7b"}


def rows_of(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("name", ROWS)
def test_tables_are_measurement_files(name):
    rows = read_measurements(FOLDER / name)
    assert len(rows) == ROWS[name]
    assert list(rows_of(name)[0]) == list(COLUMNS)
    assert len({row.source for row in rows}) == len(rows)


@pytest.mark.parametrize("name", ROWS)
def test_names_are_the_catalogs(name):
    known = catalog.load()
    for row in rows_of(name):
        assert row["model"] in known.models or row["model"] in WITHOUT_SHAPES
        assert row["precision"] in known.precisions or not row["precision"]


def test_every_table_has_a_licence():
    page = (FOLDER / "README.md").read_text("utf-8")
    written = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*.csv")}
    assert written == set(ROWS)
    assert all(f"`{name}` | {count:,} |" in page for name, count in ROWS.items())
    assert "CC BY-SA 4.0" in (FOLDER / "cc_by_sa" / "README.md").read_text("utf-8")


def test_what_the_readme_says_of_runs_listed_twice():
    seen: dict[tuple[str, str], int] = {}
    for row in rows_of("gpu_serving.csv"):
        key = (row["ttft_ms"], row["tpot_ms"])
        seen[key] = seen.get(key, 0) + 1
    again = [count for count in seen.values() if count > 1]
    assert (sum(again), len(again)) == (262, 128)


def test_both_tables_of_serving_runs_name_their_source_and_share_no_run():
    ids = [
        {row["source"] for row in rows_of(name)}
        for name in ("gpu_serving.csv", "gpu_serving_more.csv")
    ]
    assert all(source.startswith("ai-dynamo/aiconfigurator ") for source in ids[0] | ids[1])
    assert all(len(source.split()) == 2 for source in ids[0] | ids[1])
    assert not ids[0] & ids[1]
    assert {row["processor"] for row in rows_of("gpu_serving.csv")} == {
        "NVIDIA B200", "NVIDIA H100 SXM5 80GB",
    }  # fmt: skip
    assert {row["processor"] for row in rows_of("gpu_serving_more.csv")} == {
        "NVIDIA B200", "NVIDIA B300", "NVIDIA H100 SXM5 80GB", "NVIDIA H200 SXM 141GB",
    }  # fmt: skip


def written(folder: Path, name: str, header: str, *lines: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((header, *lines)) + "\n", "utf-8")


@pytest.fixture
def tool():
    return runpy.run_path(str(ROOT / "tools" / "measurements.py"))


def test_static_batches_become_output_rates(tool, tmp_path):
    header = (
        "Hardware,Num of Hardware,Framework,Model,Input Output Length,Batch Size,Latency,Throughput"
    )
    written(
        tmp_path, "accelerators/argonne_all_results.csv", header,
        "Nvidia H100 GPU,2,vLLM,meta-llama/Llama-2-7b-hf,128,16,2.0,2048",
        "Nvidia H100 GPU,4,llama.cpp,meta-llama/Llama-2-7b-hf,128,64,2.0,128",
        "Nvidia H100 GPU,4,llama.cpp,meta-llama/Llama-2-7b-hf,128,1,4.0,64",
    )  # fmt: skip
    vllm, llama = tool["argonne"](tmp_path)
    assert vllm["decode_tokens_per_s"] == "1024"
    assert (vllm["tp"], vllm["pp"], vllm["concurrency"]) == (2, 1, 16)
    assert vllm["model"] == "llama-2-7b"
    assert llama["decode_tokens_per_s"] == "64"
    assert (llama["tp"], llama["pp"], llama["concurrency"]) == (1, 4, 1)
    assert llama["source"] == "argonne:3"


def test_requests_in_flight_follow_from_rate_and_time(tool, tmp_path):
    header = "platform,model,request_rate_rps,throughput_tok_s,latency_ms_per_token"
    written(
        tmp_path, "accelerators/openvino_xeon_load_curves.csv", header,
        "Intel Xeon Platinum 8580,Llama-2-7b-chat-hf INT8,0.2,100,50",
        "Intel Arc B580 Graphics,Meta-Llama-3-8B-Instruct INT4,0.2,100,50",
    )  # fmt: skip
    (row,) = tool["xeon_serving"](tmp_path)
    assert (row["concurrency"], row["precision"], row["tpot_ms"]) == ("5", "int8", "50")


def test_neuron_cores_are_two_a_chip(tool, tmp_path):
    header = (
        "Model,Inst. Type,Output Token Throughput (tokens/sec),TTFT Latency P50 (ms),"
        "TPOT Latency P50 (ms),Neuron Version,TP Degree,Batch Size,Input Length,Output Length,"
        "Weight Storage Data Type"
    )
    line = "Llama-3-8B,Inf2.48xlarge,144.98,29.47,7.41,2.18.1,24,1,128,8064,int8"
    for host in ("inf2", "trn1"):
        for kind in ("latency", "throughput"):
            written(tmp_path, f"accelerators/{host}_{kind}_decoder.csv", header, line)
    rows = list(tool["neuron"](tmp_path))
    assert [row["processor"] for row in rows] == ["AWS Inferentia2"] * 2 + ["AWS Trainium1"] * 2
    assert rows[0]["count"] == 12
    assert rows[0]["tp"] == 24
    assert rows[0]["instance"] == "aws/inf2.48xlarge"


def test_serving_runs_keep_their_figures(tool, tmp_path):
    written(
        tmp_path, "llm_gpu/measurements.csv", ",".join(COLUMNS),
        "who file.csv run_1,2026-04-20,,b200_sxm,8,vllm,0.17.0,nvidia/DeepSeek-R1-NVFP4,fp4,"
        "8,1,1,0,4,8192,1024,229.151194945,8.674896054,,",
    )  # fmt: skip
    (row,) = tool["gpu_serving"](tmp_path)
    assert (row["source"], row["processor"]) == ("ai-dynamo/aiconfigurator run_1", "NVIDIA B200")
    assert (row["model"], row["ep"]) == ("deepseek-r1", "1")
    assert (row["ttft_ms"], row["tpot_ms"]) == ("229.151", "8.6749")


def test_more_serving_runs_are_of_one_copy_whose_size_is_told(tool, tmp_path):
    assert list(tool["gpu_serving_more"](tmp_path)) == []
    run = "2026-04-20,,{},{},vllm,0.19.0,nvidia/DeepSeek-R1-NVFP4,fp4,8,1,1,0,4,8192,1024,1,1,,"
    written(
        tmp_path, "llm_gpu/aiconfigurator_core.csv", ",".join(COLUMNS),
        "who file.csv run_1," + run.format("b200_sxm", 8),
        "who file.csv run_2," + run.format("b200_sxm", 0),
        "who file.csv run_3," + run.format("gb200", 8),
    )  # fmt: skip
    (row,) = tool["gpu_serving_more"](tmp_path)
    assert row["source"] == "ai-dynamo/aiconfigurator run_1"


def test_tables_are_written_whole(tool, tmp_path):
    count = tool["write"](tmp_path / "t.csv", [{"source": "a", "tp": 1}, {"source": "b"}])
    lines = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert count == 2
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1].startswith("a,")
    assert lines[1].count(",") == len(COLUMNS) - 1
