"""Machines of a placement for the tools of others; see also `tools/export_schemas.py`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from planned_files import PLACEMENT
from polysilicon import catalog
from polysilicon.cli import main
from polysilicon.cli import pool_join as join
from polysilicon.cli import pool_start as start
from polysilicon.errors import InputError
from polysilicon.placement.types import Placement
from polysilicon.planning.deploy.machines import machines_of_placement

GOLDEN = Path(__file__).parents[1] / "golden"
TOOLS, LLM = PLACEMENT.pools
POOLS = [
    msgspec.structs.replace(TOOLS, price="1y", units=12, usd_per_hour=4.5),
    msgspec.structs.replace(LLM, name="llm", offer="aws/g6.12xlarge", price="on-demand", units=2,
                            model="llama-3.1-8b-instruct", count=2, concurrency=32),
    msgspec.structs.replace(LLM, name="spot", offer="aws/g6.12xlarge", price="spot", units=1,
                            model="qwen3-4b", count=1, concurrency=64),
    msgspec.structs.replace(TOOLS, name="here", offer="local", region="local", units=1),
]  # fmt: skip
PLACED: Placement = msgspec.structs.replace(PLACEMENT, pools=POOLS)
ENDS = {"karpenter": "yaml", "kuberay": "yaml", "skypilot": "yaml", "terraform": "tf.json"}
TASKS = ("tools", "llm", "spot")
"""Names of the tasks of a placement for SkyPilot, which takes a file of each."""


def exported(folder: Path, target: str, placement: Placement = PLACED, *more: str) -> Path:
    """Return the file that `export` writes, or the error where it exits with another code."""
    source, path = folder / "placement.json", folder / f"out.{ENDS[target]}"
    source.write_bytes(msgspec.json.encode(placement))
    with pytest.raises(SystemExit) as stop:
        main(["export", str(source), "--to", target, "-o", str(path), *more])
    assert not stop.value.code, stop.value.code
    return path


@pytest.mark.parametrize("target", [target for target in ENDS if target != "skypilot"])
def test_files_are_as_they_were(tmp_path: Path, target: str) -> None:
    golden = GOLDEN / f"placement.{target}.{ENDS[target]}"
    assert exported(tmp_path, target).read_text() == golden.read_text()


def test_tasks_are_as_they_were(tmp_path: Path) -> None:
    path = exported(tmp_path, "skypilot")
    assert not path.exists()
    for name in TASKS:
        golden = GOLDEN / f"placement.skypilot.{name}.yaml"
        assert path.with_name(f"out.{name}.yaml").read_text() == golden.read_text()


def test_node_pools_are_what_karpenter_takes(tmp_path: Path) -> None:
    pools = list(yaml.safe_load_all(exported(tmp_path, "karpenter").read_text()))
    assert [pool["metadata"]["name"] for pool in pools] == [
        "aws-m9g-2xlarge-us-east-1-committed", "aws-g6-12xlarge-us-east-1-on-demand",
        "aws-g6-12xlarge-us-east-1-spot",
    ]  # fmt: skip


def test_models_on_gpus_are_a_service(tmp_path: Path) -> None:
    (service,) = yaml.safe_load_all(exported(tmp_path, "kuberay").read_text())
    assert service["kind"] == "RayService"
    (config,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    eight, four = config["args"]["llm_configs"]
    assert eight["model_loading_config"]["model_source"] == "meta-llama/Llama-3.1-8B-Instruct"
    # Two machines of four GPUs hold four copies of two GPUs each, with half the steps each.
    assert eight["engine_kwargs"] == {"tensor_parallel_size": 2}
    assert eight["deployment_config"]["autoscaling_config"]["max_replicas"] == 4
    assert eight["deployment_config"]["max_ongoing_requests"] == 16
    bundles = eight["placement_group_config"]["bundles"]
    assert sum(bundle["GPU"] for bundle in bundles) == 2
    assert bundles[0]["aws/g6.12xlarge"] == pytest.approx(0.5)
    assert four["deployment_config"]["autoscaling_config"]["max_replicas"] == 4
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    limits = {g["groupName"]: g["template"]["spec"]["containers"][0]["resources"]["limits"]
              for g in groups}  # fmt: skip
    assert limits["aws-g6-12xlarge-us-east-1"]["nvidia.com/gpu"] == "4"
    tools_only = msgspec.structs.replace(PLACED, pools=POOLS[:1])
    (cluster,) = yaml.safe_load_all(exported(tmp_path, "kuberay", tools_only).read_text())
    assert cluster["kind"] == "RayCluster"


def test_models_that_ray_does_not_serve_are_told(tmp_path: Path) -> None:
    inferentia = msgspec.structs.replace(POOLS[1], offer="aws/inf2.48xlarge", count=None)
    placed = msgspec.structs.replace(PLACED, pools=[inferentia])
    text = exported(tmp_path, "kuberay", placed).read_text()
    assert "# Not served by Ray, as they are not on NVIDIA GPUs: llama-3.1-8b-instruct." in text
    (cluster,) = yaml.safe_load_all(text)
    assert cluster["kind"] == "RayCluster"


def commands(run: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the commands that a task runs, with their options as this version reads them."""
    found = []
    for line in run.splitlines():
        words = shlex.split(line.partition(" > ")[0])
        if "polysilicon" not in words:
            continue
        _, group, verb, *rest = words[words.index("polysilicon") :]
        assert group == "pool"
        command = (start if verb == "start" else join).command
        found.append((verb, command.make_context(verb, rest).params))
    return found


def test_each_pool_has_a_task_that_serves_what_was_placed(tmp_path: Path) -> None:
    path = exported(tmp_path, "skypilot")
    tasks = {name: yaml.safe_load(path.with_name(f"out.{name}.yaml").read_text())
             for name in TASKS}  # fmt: skip
    assert [task["num_nodes"] for task in tasks.values()] == [12, 2, 1]
    types = [task["resources"]["instance_type"] for task in tasks.values()]
    assert types == ["m9g.2xlarge", "g6.12xlarge", "g6.12xlarge"]
    assert [task["resources"]["use_spot"] for task in tasks.values()] == [False, False, True]
    for task in tasks.values():
        assert task["envs"] == {"POLYSILICON_GATEWAY": None}
        assert task["secrets"] == {"POLYSILICON_KEY": None}
        bash = ["bash", "-n", "-c", task["run"]]
        assert subprocess.run(bash, capture_output=True, check=False).returncode == 0
    ((verb, tools),) = commands(tasks["tools"]["run"])
    assert (verb, tools["serves"], tools["model"]) == ("join", "code", None)
    assert (tools["offer"], tools["region"], tools["price"]) == (
        "aws/m9g.2xlarge", "us-east-1", "1y",
    )  # fmt: skip
    # A machine of four GPUs holds two copies of two GPUs each, with half the steps each.
    *starts, (verb, llm) = commands(tasks["llm"]["run"])
    assert [(s["recipe"], s["model"], s["count"], s["concurrency"]) for _, s in starts] == [
        ("vllm-nvidia", "meta-llama/Llama-3.1-8B-Instruct", 2, 16)
    ] * 2
    assert {s["name"] for _, s in starts} == {llm["model"]} == {"llama-3.1-8b-instruct"}
    assert llm["endpoints"] == tuple(f"http://127.0.0.1:{s['port']}/v1" for _, s in starts)
    assert (llm["concurrency"], llm["price"], llm["serves"]) == (32, "on-demand", "models")
    visible = re.findall(r"CUDA_VISIBLE_DEVICES=(\S+)", tasks["llm"]["run"])
    assert visible == ["0,1", "2,3"]
    *starts, (verb, spot) = commands(tasks["spot"]["run"])
    assert (len(starts), spot["price"], spot["model"]) == (4, "spot", "qwen3-4b")
    assert tasks["llm"]["setup"] == "pip install polysilicon vllm"


def test_what_no_command_serves_is_told(tmp_path: Path, capsys) -> None:
    cpu = msgspec.structs.replace(POOLS[1], name="cpu", offer="aws/m9g.2xlarge", count=None)
    small = msgspec.structs.replace(cpu, name="small", model="smollm2-135m-instruct")
    tuned = msgspec.structs.replace(cpu, name="train", role="train")
    asic = msgspec.structs.replace(POOLS[1], name="asic", offer="aws/inf2.48xlarge", count=2)
    placed = msgspec.structs.replace(PLACED, pools=[cpu, small, tuned, asic])
    path = exported(tmp_path, "skypilot", placed)  # of one task, the file that was asked for
    ((_, join),) = commands(yaml.safe_load(path.read_text())["run"])
    assert (join["model"], join["serves"]) == ("smollm2-135m-instruct", "models")
    told = capsys.readouterr().err.splitlines()
    assert "left out: cpu: no file of llama-3.1-8b-instruct for llama.cpp is known" in told[0]
    assert "left out: train: machines that join do no steps of kind train alone" in told[1]
    assert "left out: asic: 6 copies of a model on a machine with AWS Inferentia2" in told[2]
    whole = msgspec.structs.replace(asic, count=12)
    path = exported(tmp_path, "skypilot", msgspec.structs.replace(PLACED, pools=[whole]))
    *starts, _ = commands(yaml.safe_load(path.read_text())["run"])
    assert [s["count"] for _, s in starts] == [24]  # NeuronCores, two of an accelerator
    with pytest.raises(AssertionError, match="2"):
        exported(tmp_path, "skypilot", msgspec.structs.replace(PLACED, pools=[tuned]))
    assert "no command serves any of it" in capsys.readouterr().err


def test_no_name_is_obeyed_by_the_shell(tmp_path: Path) -> None:
    for evil in ("$(touch pwned)", "$name; touch pwned", "`touch pwned`", "$HOME", "a'\"$(id)"):
        pool = msgspec.structs.replace(POOLS[1], model=evil, region=evil)
        path = exported(tmp_path, "skypilot", msgspec.structs.replace(PLACED, pools=[pool]))
        *starts, (_, join) = commands(yaml.safe_load(path.read_text())["run"])
        assert {s["name"] for _, s in starts} == {join["model"]} == {evil}
        assert join["region"] == evil
        run = yaml.safe_load(path.read_text())["run"].splitlines()
        line = next(line for line in run if line.startswith("exec "))
        echoed = ["bash", "-c", f"printf '%s\\n' {line.removeprefix('exec ')}"]
        words = subprocess.run(echoed, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert words.stdout.split("\n").count(evil) == 2
    assert not (tmp_path / "pwned").exists()


def test_a_count_that_the_machine_has_not_is_told(tmp_path: Path, capsys) -> None:
    pools = [msgspec.structs.replace(POOLS[1], name=f"of-{n}", count=n) for n in (0, 5, 4)]
    exported(tmp_path, "skypilot", msgspec.structs.replace(PLACED, pools=pools))
    told = capsys.readouterr().err
    for count in (0, 5):
        assert f"count of of-{count}: {count}, where aws/g6.12xlarge has 4; give 1 to 4" in told
    assert "left out: of-4" not in told


def test_terraform_buys_nothing_unless_told(tmp_path: Path) -> None:
    text = exported(tmp_path, "terraform").read_text()
    module = json.loads(text)
    resources, variables = module["resource"], module["variable"]
    assert set(re.findall(r"var\.(\w+)", text)) <= set(variables)
    aliases = {f"aws.{one['alias']}" for one in module["provider"]["aws"]}
    for kind in resources.values():
        assert {one["provider"] for one in kind.values()} <= aliases
    for kind, variable in (("aws_savingsplans_savings_plan", "buy_offerings"),
                           ("aws_ec2_capacity_reservation", "reserve_in")):  # fmt: skip
        ((label, found),) = resources[kind].items()
        assert label == "aws-m9g-2xlarge-us-east-1"
        assert variables[variable]["default"] == {}
        assert found["count"] == f'${{contains(keys(var.{variable}), "{label}") ? 1 : 0}}'
    assert resources["aws_savingsplans_savings_plan"][label]["commitment"] == "4.500"
    assert resources["aws_ec2_capacity_reservation"][label]["instance_count"] == 12


def test_terraform_rents_spot_machines_as_such(tmp_path: Path) -> None:
    placed = msgspec.structs.replace(PLACED, pools=[POOLS[0], POOLS[2]])
    module = json.loads(exported(tmp_path, "terraform", placed).read_text())
    templates = module["resource"]["aws_launch_template"].values()
    found = [one.get("instance_market_options") for one in templates]
    assert found == [None, [{"market_type": "spot"}]]


def test_spot_machines_beside_others_are_a_group_of_their_own(tmp_path: Path) -> None:
    module = json.loads(exported(tmp_path, "terraform").read_text())
    label = "aws-g6-12xlarge-us-east-1"
    groups = module["resource"]["aws_autoscaling_group"]
    assert [groups[name]["max_size"] for name in (label, f"{label}-spot")] == [4, 2]
    templates = module["resource"]["aws_launch_template"]
    assert [name for name, one in templates.items() if "instance_market_options" in one] == [
        f"{label}-spot"
    ]
    for name, group in groups.items():
        assert group["launch_template"][0]["id"] == f"${{aws_launch_template.{name}.id}}"
    google = msgspec.structs.replace(POOLS[0], offer="gcp/c4a-standard-16", region="us-central1")
    spot = msgspec.structs.replace(google, name="s", price="spot", units=2)
    placed = msgspec.structs.replace(PLACED, pools=[google, spot])
    resource = json.loads(exported(tmp_path, "terraform", placed).read_text())["resource"]
    scaled = resource["google_compute_region_autoscaler"]
    policies = [one["autoscaling_policy"][0] for one in scaled.values()]
    assert [(p["min_replicas"], p["max_replicas"]) for p in policies] == [(12, 12), (0, 4)]
    templates = resource["google_compute_instance_template"]
    assert [("scheduling" in one) for one in templates.values()] == [False, True]


def test_terraform_for_google_and_what_is_left_out(tmp_path: Path) -> None:
    google = msgspec.structs.replace(POOLS[0], offer="gcp/c4a-standard-16", region="us-central1")
    spot = msgspec.structs.replace(google, offer="gcp/c4a-standard-8", price="spot", units=2)
    own = msgspec.structs.replace(POOLS[0], offer="own/rack", region="here")
    placed = msgspec.structs.replace(PLACED, pools=[google, spot, own])
    text = exported(tmp_path, "terraform", placed).read_text()
    module = json.loads(text)
    assert "own/rack" in module["//"][-1]
    assert list(module["terraform"]["required_providers"]) == ["google"]
    assert {name for name in re.findall(r"var\.(\w+)", text)} <= set(module["variable"])  # noqa: C416
    resources, label = module["resource"], "gcp-c4a-standard-16-us-central1"
    for kind, name in re.findall(r"\$\{(google_\w+)\.([\w-]+)\.", text):
        assert name in resources[kind]
    ((bought, found),) = resources["google_compute_region_commitment"].items()
    assert bought == label
    assert module["variable"]["google_commitments"]["default"] == {}
    amounts = {one["type"]: one["amount"] for one in found["resources"]}
    assert amounts == {"VCPU": str(16 * 12), "MEMORY": str(64 * 12 * 1024)}
    scaled = resources["google_compute_region_autoscaler"][label]["autoscaling_policy"][0]
    assert (scaled["min_replicas"], scaled["max_replicas"]) == (12, 12)
    templates = resources["google_compute_instance_template"]
    assert [("scheduling" in one) for one in templates.values()] == [False, True]
    assert (
        "# Not in here, as Karpenter rents" in exported(tmp_path, "karpenter", placed).read_text()
    )
    exported(tmp_path, "skypilot", placed)
    assert "only: own/rack." in (tmp_path / "out.tools.yaml").read_text()


def test_what_cannot_be_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="2"):
        exported(tmp_path, "karpenter", PLACED, "--month", "2027-01")
    (tmp_path / "out.yaml").write_text("{}")
    source = tmp_path / "no.json"
    source.write_text('{"pools": 3}')
    for path in (source, tmp_path / "gone.json"):
        with pytest.raises(SystemExit) as stop:
            main(["export", str(path), "--to", "kuberay", "-o", str(tmp_path / "out.yaml")])
        assert stop.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert "a placement has no months" in told[0]
    assert "no placement" in told[1]
    only = msgspec.structs.replace(PLACED, pools=POOLS[3:])
    with pytest.raises(InputError, match="no machine but this one"):
        machines_of_placement(only, catalog.shipped())
