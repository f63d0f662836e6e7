from __future__ import annotations

import pytest

from polysilicon.catalog.policy import Policy, read_policy
from polysilicon.errors import InputError

WHOLE = """
objective = "energy"

[[slo]]
agent = "support"
p99_s = 8.0
interactive = true

[[residency]]
data_class = "personal"
regions = ["eu-*", "local"]

[vendor_share_max]
aws = 0.7

[supply_max]
"aws/p5.48xlarge" = 4
"""


def read(tmp_path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return read_policy(path)


def test_a_whole_file(tmp_path) -> None:
    policy = read(tmp_path, WHOLE)
    assert policy.objective == "energy"
    assert policy.slo_of("support").p99_s == 8.0
    assert policy.slo_of("support").interactive
    assert policy.slo_of("coder") is None
    assert policy.vendor_share_max == {"aws": 0.7}
    assert policy.supply_max == {"aws/p5.48xlarge": 4}


def test_residency_binds_its_own_class_only(tmp_path) -> None:
    policy = read(tmp_path, WHOLE)
    assert policy.resident("personal", "eu-central-1")
    assert policy.resident("personal", "local")
    assert not policy.resident("personal", "us-east-1")
    assert policy.resident("public", "us-east-1")
    assert policy.resident(None, "us-east-1")


def test_an_empty_file_allows_everything(tmp_path) -> None:
    assert read(tmp_path, "") == Policy()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("objective = 'speed'", "speed"),
        ("goal = 'cost'", "goal"),
        ("slo = 3", "slo"),
        ("= 1", "Invalid"),
        ("[[slo]]\nagent='a'\np99_s=0.0", "slo, a: p99_s is 0"),
        ("[[slo]]\nagent='a'\np99_s=nan", "slo, a: p99_s is nan"),
        ("[[slo]]\nagent='a'\np99_s=1.0\n[[slo]]\nagent='a'\np99_s=2.0", "'a' is there twice"),
        ("[[residency]]\ndata_class='p'\nregions=[]", "residency, p: no region"),
        ("[vendor_share_max]\naws=70", "vendor_share_max, aws: the share is 70"),
        ("[supply_max]\nx=-1", "supply_max, x: -1 units"),
    ],
)
def test_rules_that_cannot_be_are_one_line(tmp_path, text, says) -> None:
    with pytest.raises(InputError, match="policy.toml") as raised:
        read(tmp_path, text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_such_file(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_policy(tmp_path / "none.toml")


def test_placements_may_say_prices_and_what_may_be_lost(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('redundancy = "region"\nprices = ["1y", "spot"]\n')
    policy = read_policy(path)
    assert (policy.redundancy, policy.prices) == ("region", ("1y", "spot"))
    path.write_text('prices = ["free"]')
    with pytest.raises(InputError, match="free"):
        read_policy(path)
