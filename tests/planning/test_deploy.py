from __future__ import annotations

import json
import re

import msgspec
import pytest
import yaml

from plan_problems import CORES, HEAD, RENTED, YEAR, solved
from polysilicon import catalog
from polysilicon.errors import InputError
from polysilicon.planning.dates import Calendar
from polysilicon.planning.deploy import karpenter, kuberay, skypilot, terraform
from polysilicon.planning.deploy.machines import machines_of
from polysilicon.planning.deploy.text import yaml_documents
from polysilicon.runtime.servers.rented import script_of

CALENDAR = Calendar(year=2026, month=12, months=12)
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
RHYTHM = "rhythm = [" + ", ".join(["1"] * 22 + ["5", "5"]) + "]\n"
PROBLEM = HEAD.replace('"mean"', '"day"') + CORES + RHYTHM + RENTED + YEAR


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    plan = solved(tmp_path_factory.mktemp("deploy"), PROBLEM).plan
    return machines_of(plan, CALENDAR, 0, catalog.shipped())


def test_machines_are_those_of_the_month(machines):
    (one,) = machines
    # Twenty-two hours ask for 0.75 of the mean; the two others are dearer by contract.
    assert one.committed == pytest.approx(750 / 186.1, rel=0.01)
    assert one.hourly > 0
    assert one.spot is None
    assert (one.type, one.region, one.needs) == ("m9g.48xlarge", "us-east-1", ("tools",))


def test_node_pools_take_commitments_first(machines):
    pools = list(yaml.safe_load_all(karpenter.write(machines, ["a note"])))
    assert [pool["apiVersion"] for pool in pools] == ["karpenter.sh/v1"] * 2
    assert all(NAME.fullmatch(pool["metadata"]["name"]) for pool in pools)
    committed, hourly = (pool["spec"] for pool in pools)
    assert committed["weight"] > hourly["weight"]
    assert committed["limits"] == {"cpu": str(192 * 5)}
    assert "limits" not in hourly
    wanted = {r["key"]: r["values"] for r in committed["template"]["spec"]["requirements"]}
    assert wanted["node.kubernetes.io/instance-type"] == ["m9g.48xlarge"]
    assert wanted["karpenter.sh/capacity-type"] == ["reserved", "on-demand"]


def test_a_ray_group_has_the_offer_as_resource(machines):
    (cluster,) = yaml.safe_load_all(kuberay.write(machines, []))
    (group,) = cluster["spec"]["workerGroupSpecs"]
    assert group["minReplicas"] == 4
    assert group["maxReplicas"] > group["minReplicas"]
    resources = group["rayStartParams"]["resources"].strip("'")
    assert json.loads(resources) == {"aws/m9g.48xlarge": 1}


def test_a_task_asks_which_model_a_plan_does_not_tell(machines):
    tasks, refused = skypilot.write(machines, [], script_of)
    ((name, text),) = tasks.items()
    task = yaml.safe_load(text)
    assert (name, refused) == ("aws-m9g-48xlarge-us-east-1-on-demand", [])
    assert task["resources"] == {
        "infra": "aws/us-east-1", "instance_type": "m9g.48xlarge", "use_spot": False
    }  # fmt: skip
    assert task["num_nodes"] >= 4
    assert task["envs"] == {"POLYSILICON_GATEWAY": None, "POLYSILICON_MODEL": None}
    assert '--model "$POLYSILICON_MODEL"' in task["run"]
    assert "# For tools; POLYSILICON_MODEL says" in text


def test_terraform_keeps_what_is_committed(machines):
    module = json.loads(terraform.write(machines, ["a note"]))
    (group,) = module["resource"]["aws_autoscaling_group"].values()
    assert group["min_size"] == 4
    (template,) = module["resource"]["aws_launch_template"].values()
    assert template["instance_type"] == "m9g.48xlarge"
    assert module["provider"]["aws"] == [{"alias": "us_east_1", "region": "us-east-1"}]


def test_terraform_obeys_nothing_that_a_name_holds(machines):
    evil = '${file("/etc/passwd")}%{ if true }"]'
    for vendor in ("aws", "gcp"):
        one = msgspec.structs.replace(machines[0], offer=f"{vendor}/t{evil}", region=f"r{evil}")
        text = terraform.write([one], [])
        module = json.loads(text)
        found = strings(module["resource"]) + strings(module["provider"])
        known = re.compile(r"\$\{(var\.|aws_|google_|contains\()")
        for value in found:
            rest = value.replace("$${", "").replace("%%{", "")
            assert "%{" not in rest
            assert rest.count("${") == len(known.findall(rest))
        assert any('["t$${file(\\"/etc' in value for value in found)


def strings(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in strings(one)]


def test_what_a_tool_cannot_rent_is_refused(tmp_path):
    rack = 'own/rack"\nlike = "aws/m9g.48xlarge"\non_demand_usd_per_hour = 9\nregions'
    problem = PROBLEM.replace('aws/m9g.48xlarge"\nregions', rack)
    each = machines_of(solved(tmp_path, problem).plan, CALENDAR, 0, catalog.shipped())
    with pytest.raises(InputError, match="here machines are from own"):
        karpenter.write(each, [])


def test_yaml_holds_whatever_is_put_into_it():
    nasty = {"a: b": ['"', "#", {"x": [], "y": {}}, "- 1", "\n", "no"], "n": [[1, 2], None, 1.5]}
    text = yaml_documents([nasty, {"k": "v"}], ["note\nkind: Pod"])
    assert list(yaml.safe_load_all(text)) == [nasty, {"k": "v"}]
