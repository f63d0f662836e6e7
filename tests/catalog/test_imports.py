from __future__ import annotations

from collections import Counter

import pytest

from polysilicon import catalog
from polysilicon.catalog.imports import is_skypilot, read_skypilot
from polysilicon.catalog.imports.chips import family, tpu_slice
from polysilicon.catalog.imports.vms import gpu_memory_gib
from polysilicon.errors import InputError

AWS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
    "Region,AvailabilityZone,Arch"
)
AZURE = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,"
    "Region,Generation"
)
GCP = (
    "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,"
    "AvailabilityZone,Price,SpotPrice"
)
LAMBDA = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice"
)


def info(name, mib):
    gpu = f"{{'Name': '{name}', 'Count': 1.0, 'MemoryInfo': {{'SizeInMiB': {mib}}}}}"
    return f"\"{{'Gpus': [{gpu}], 'TotalGpuMemoryInMiB': {mib}}}\""


def read(tmp_path, *lines, cloud=None, skipped=None):
    path = tmp_path / "vms.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return read_skypilot(path, catalog.load(), date="2026-11-01", cloud=cloud, skipped=skipped)


def only(found, name):
    offers = [offer for offer in found.offers if offer.name == name]
    assert len(offers) == 1
    return offers[0]


def test_aws_zones_become_regions_with_the_lowest_spot(tmp_path):
    found = read(
        tmp_path,
        AWS,
        "zz9.2xlarge,,,8.0,16.0,,0.30,0.12,us-east-1,use1-az1,arm64",
        "zz9.2xlarge,,,8.0,16.0,,0.30,0.11,us-east-1,use1-az2,arm64",
        "zz9.2xlarge,,,8.0,16.0,,0.40,0.4000,eu-west-1,euw1-az1,arm64",
    )
    assert (found.cloud, found.rows, len(found.offers)) == ("aws", 3, 2)
    east, west = found.offers
    assert (east.name, east.region) == ("aws/zz9.2xlarge", "us-east-1")
    assert (east.on_demand_usd_per_hour, east.spot_usd_per_hour) == (0.30, 0.11)
    assert (east.vcpus, east.memory_bytes) == (8, 16 * 2**30)
    assert (east.date, east.source) == ("2026-11-01", "SkyPilot catalog vms.csv")
    # A spot price that equals the on-demand price is what the feed writes where it has none.
    assert west.spot_usd_per_hour is None
    assert found.handled == {"spot price equal to the on-demand price: not known": 1}


def test_prices_that_stand_for_unknown(tmp_path):
    found = read(
        tmp_path,
        AWS,
        "a.large,,,2,4,,700.0,0.1,us-east-1,z1,arm64",
        "b.large,,,2,4,,0,,us-east-1,z1,arm64",
        "c.large,,,2,4,,-1,,us-east-1,z1,arm64",
        "d.large,,,2,4,,999.0,,us-east-1,z1,arm64",
        "e.large,,,2,4,,1000.5,99999,us-east-1,z1,arm64",
        "f.large,,,0,0,,0.5,0.9,us-east-1,z1,arm64",
    )
    assert [offer.name for offer in found.offers] == ["aws/a.large", "aws/e.large", "aws/f.large"]
    assert only(found, "aws/a.large").on_demand_usd_per_hour is None
    assert only(found, "aws/e.large").on_demand_usd_per_hour == 1000.5
    assert only(found, "aws/f.large").spot_usd_per_hour is None
    assert only(found, "aws/f.large").vcpus is None
    assert found.left_out == {"no price is known": 3}
    assert found.handled == {
        "Price of 700: not known": 1,
        "Price of 0 or less: not known": 2,
        "Price of nothing but nines: not known": 1,
        "SpotPrice of nothing but nines: not known": 1,
        "spot price above the on-demand price: not known": 1,
    }


def test_what_the_catalog_knows_holds(tmp_path):
    found = read(
        tmp_path,
        AZURE,
        "Standard_NC40ads_H100_v5,H100,1,40.0,320,H100,6.98,6.98,eastus,V2",
        "Standard_ND96isr_H100_v5,H100,12,96.0,1900,H100,98.32,40,eastus,V2",
        "Standard_NC16ads_A10_v4,,,16.0,200,,,,eastus,V2",
    )
    assert found.cloud == "azure"
    assert found.ignored == ("Generation",)
    nvl = only(found, "azure/Standard_NC40ads_H100_v5")
    assert nvl.processor.name == "NVIDIA H100 NVL 94GB"
    known = catalog.load().offer(nvl.name, "eastus")
    assert nvl.spot_usd_per_hour == known.spot_usd_per_hour
    assert f"as of {known.date}" in nvl.note
    eight = only(found, "azure/Standard_ND96isr_H100_v5")
    assert eight.accelerators == 8
    assert any("12 x H100" in how for how in found.handled)


def test_rates_for_years_stay_the_catalogs(tmp_path):
    known = next(
        o
        for o in catalog.load().offers
        if o.cloud == "gcp" and o.kind == "cpu" and o.reserved_3y_usd_per_hour is not None
    )
    line = f"{known.name.removeprefix('gcp/')},{known.vcpus},4,,,,{known.region},,0.01,0.001"
    found = only(read(tmp_path, GCP, line), known.name)
    assert found.reserved_3y_usd_per_hour == known.reserved_3y_usd_per_hour
    assert found.on_demand_usd_per_hour == 0.01
    assert "3y as of" in found.note


def test_gcp_accelerator_machines_get_the_price_of_their_accelerators(tmp_path):
    found = read(
        tmp_path,
        GCP,
        "a2-highgpu-1g,12.0,85.0,,,,us-central1,us-central1-a,0.73948,0.36975",
        "a2-highgpu-1g,12.0,85.0,,,,us-central1,us-central1-b,0.73948,0.36975",
        "a2-highgpu-8g,96.0,680.0,,,,us-central1,us-central1-a,5.91582,2.958",
        "a2-highgpu-2g,24.0,170.0,,,,asia-northeast1,asia-northeast1-a,1.9,0.8",
        ",,,A100,1,A100,us-central1,us-central1-a,2.9339,1.2",
        ",,,A100,1,A100,us-central1,us-central1-b,2.9339,1.1",
        ",,,T4,1,T4,us-central1,us-central1-a,0.35,0.1",
    )
    one = only(found, "gcp/a2-highgpu-1g")
    assert one.on_demand_usd_per_hour == pytest.approx(0.73948 + 2.9339)
    assert one.spot_usd_per_hour == pytest.approx(0.36975 + 1.1)
    assert (one.processor.name, one.accelerators) == ("NVIDIA A100 SXM4 40GB", 1)
    eight = only(found, "gcp/a2-highgpu-8g")
    assert eight.on_demand_usd_per_hour == pytest.approx(5.91582 + 8 * 2.9339)
    assert found.left_out == {
        "the price excludes its accelerators, and the file has none for them": 1,
        "an accelerator to attach, no offer of its own": 3,
    }


def test_gcp_prices_of_exactly_as_many_accelerators_come_first(tmp_path):
    found = read(
        tmp_path,
        GCP,
        "a3-megagpu-8g,208,1872,,,,us-central1,us-central1-a,9.5,3",
        ",,,H100,8,H100,us-central1,us-central1-a,70,20",
        ",,,H100-MEGA-80GB,1,H100,us-central1,us-central1-a,10,3",
        ",,,H100-MEGA-80GB,8,H100,us-central1,us-central1-a,80,25",
    )
    offers = {offer.name: offer for offer in found.offers}
    if "gcp/a3-megagpu-8g" in {o.name for o in catalog.load().offers}:
        assert offers["gcp/a3-megagpu-8g"].on_demand_usd_per_hour == pytest.approx(89.5)
    else:
        # Nobody tells which accelerators it has, so its price is not completed by a guess.
        assert not offers


def test_a_host_price_in_disguise_is_left_out(tmp_path):
    found = read(
        tmp_path,
        AWS,
        "p5.48xlarge,H100,8.0,192.0,2048.0,,5.0,,us-east-1,use1-az2,x86_64",
    )
    assert not found.offers
    assert "seem to be excluded" in next(iter(found.left_out))


def test_tpu_slices(tmp_path):
    found = read(
        tmp_path,
        GCP,
        ",,,tpu-v6e-16,1,tpu-v6e-16,us-central1,us-central1-a,43.2,8.70733",
        ",,,tpu-v6e-16,1,tpu-v6e-16,us-central2,us-central2-b,700.0,700.0",
        ",,,tpu-v6e-16,1,tpu-v6e-16,us-central2,us-central2-b,700.0,700.0",
        ",,,tpu-v5p-1024,1,tpu-v5p-1024,us-south1,us-south1-a,2446.848,673.86214",
        ",,,tpu-v2-8,1,tpu-v2-8,us-south1,us-south1-a,4.5,1",
    )
    slice_ = only(found, "gcp/tpu-v6e-16")
    assert (slice_.region, slice_.accelerators, slice_.kind) == ("us-central1", 16, "asic")
    # Slices of v5p are named by cores, two to a chip.
    assert only(found, "gcp/tpu-v5p-1024").accelerators == 512
    assert found.left_out == {"no price is known": 1, "unknown accelerator 'TPU v2'": 1}
    known = catalog.load()
    assert tpu_slice("tpu-v5litepod-8", known).count == 8
    assert tpu_slice("tpu-v5p-1", known).unknown
    assert tpu_slice("tpu-x", known).unknown == "unknown accelerator 'tpu-x'"


def test_lambda_and_accelerators_by_memory_and_form(tmp_path):
    found = read(
        tmp_path,
        LAMBDA,
        "cpu_4x_general,,,4.0,16.0,0.2,us-west-2,,",
        f"gpu_8x_h100_sxm5,H100,8.0,208.0,1800.0,23.92,us-west-2,{info('H100', 81920)},",
        f"gpu_8x_a100_80gb_sxm4,A100,8.0,240.0,1800.0,14.32,us-west-2,{info('A100', 81920)},",
        f"gpu_1x_h100_pcie,H100,1.0,26.0,200.0,2.49,us-west-2,{info('H100', 81920)},",
        f"gpu_8x_v100,V100,8.0,92.0,448.0,6.32,us-west-2,{info('V100', 16384)},",
        f"gpu_1x_l4,L4,1.0,8.0,30.0,0.9,us-west-2,{info('L4', 99999)},",
    )
    assert found.cloud == "lambda"
    assert only(found, "lambda/gpu_8x_h100_sxm5").processor.name == "NVIDIA H100 SXM5 80GB"
    big = only(found, "lambda/gpu_8x_a100_80gb_sxm4")
    assert (big.processor.name, big.accelerators) == ("NVIDIA A100 SXM4 80GB", 8)
    assert only(found, "lambda/cpu_4x_general").kind == "cpu"
    unknown = sorted(found.left_out)
    assert [reason.split("'")[1] for reason in unknown] == ["H100-PCIe", "L4 of 98 GiB", "V100"]
    assert "did you mean" in unknown[0]


def test_shared_accelerators_have_no_number(tmp_path):
    found = read(tmp_path, AWS, "zz6f.large,L4,0.125,2.0,8.0,,0.2,0.1,us-east-1,z,x86_64")
    assert only(found, "aws/zz6f.large").accelerators is None
    assert only(found, "aws/zz6f.large").processor.name == "NVIDIA L4"


def test_a_new_size_has_the_chip_of_its_family(tmp_path):
    found = read(
        tmp_path,
        AWS,
        "c6g.93xlarge,,,64.0,128.0,,2.1,0.5,us-east-1,use1-az1,arm64",
        "c6g.95xlarge,,,64.0,128.0,,2.1,0.5,us-east-1,use1-az1,x86_64",
    )
    sibling = only(found, "aws/c6g.93xlarge")
    assert (sibling.processor.name, sibling.note) == (
        "AWS Graviton2",
        "processor as of its other sizes",
    )
    # The file says that it is another kind of CPU.
    assert only(found, "aws/c6g.95xlarge").processor is None
    assert family("azure/Standard_D16ps_v6") == family("azure/Standard_D2ps_v6")
    assert family("gcp/c4a-standard-8") == "gcp/c4a"


def test_rows_told_twice_and_zones_that_differ(tmp_path):
    found = read(
        tmp_path,
        AWS,
        "zz.large,,,2,4,,0.5,0.2,us-east-1,z1,arm64",
        "zz.large,,,2,4,,0.5,0.1,us-east-1,z1,arm64",
        "zz.large,,,2,8,,0.6,,us-east-1,z2,arm64",
    )
    offer = only(found, "aws/zz.large")
    assert (offer.on_demand_usd_per_hour, offer.spot_usd_per_hour) == (0.5, 0.1)
    assert offer.memory_bytes == 4 * 2**30
    assert set(found.handled) == {
        "told twice of one zone: the lower price holds",
        "sizes differ between zones: those of the first hold",
        "on-demand price differs between zones: the lowest holds",
    }


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["InstanceType,Price", "a.large,1"], "no column Region"),
        (["InstanceType,Price,Region,Price", "a.large,1,r,1"], "'Price' is there twice"),
        ([AWS, "a.large,,,2,4,,cheap,,us-east-1,z1,arm64"], "row 2, Price: 'cheap'"),
        ([AWS, "a.large,,,2,4,,0.1,nan,us-east-1,z1,arm64"], "row 2, SpotPrice: 'nan'"),
        ([AWS, "a.large,,,-2,4,,0.1,,us-east-1,z1,arm64"], "row 2, vCPUs"),
        ([AWS, "a.large,,,2,-4,,0.1,,us-east-1,z1,arm64"], "row 2, MemoryGiB"),
        ([AWS, "a.large,,,2,4,,0.1,,,z1,arm64"], "row 2, Region"),
        ([AWS, ",,,2,4,,0.1,,us-east-1,z1,arm64"], "neither InstanceType nor AcceleratorName"),
        ([AWS, "a.large,,,2"], "row 2: has 4 cells, not 11"),
        ([AWS, "odd,,,2,4,,0.1,,nowhere,z1,arm64"], "give --cloud"),
        (
            [
                AWS,
                "a.large,,,2,4,,0.1,,us-east-1,z1,arm64",
                "Standard_D2,,,2,4,,0.1,,eastus,,x86_64",
            ],
            "rows of aws and of azure",
        ),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, lines, words):
    with pytest.raises(InputError) as caught:
        read(tmp_path, *lines)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_rows_can_be_counted_and_left_out(tmp_path):
    skipped: Counter[str] = Counter()
    lines = ["a.large,,,2,4,,cheap,,us-east-1,z1,arm64", "b.large,,,2,4,,1,,us-east-1,z1,arm64"]
    found = read(tmp_path, AWS, *lines, skipped=skipped)
    assert [offer.name for offer in found.offers] == ["aws/b.large"]
    assert skipped == {"Price: must be a finite number": 1}


def test_another_cloud_has_to_be_named(tmp_path):
    lines = [LAMBDA, "1x_H200_SECURE,H200,1,16,200,3.99,US,,"]
    found = read(tmp_path, *lines, cloud="runpod")
    offer = found.offers[0]
    assert (offer.name, offer.region) == ("runpod/1x_H200_SECURE", "us")
    assert offer.processor.name == "NVIDIA H200 SXM 141GB"
    with pytest.raises(InputError, match="cannot be a cloud"):
        read(tmp_path, *lines, cloud="Run Pod/x")


def test_gpu_info_is_read_as_data():
    assert gpu_memory_gib("{'Gpus': [{'MemoryInfo': {'SizeInMiB': 24576}}]}") == 24
    for text in (
        "K80",
        "",
        "{",
        "{'Gpus': []}",
        "{'Gpus': [{'MemoryInfo': {'SizeInMiB': True}}]}",
        "{'Gpus': [{'MemoryInfo': {'SizeInMiB': -1}}]}",
        "{__import__('os').getcwd(): 1}",
        "{" * 3000,
        "{'a': " + "1" * 5000 + "}",
    ):
        assert gpu_memory_gib(text) is None


def test_kinds_of_files_are_told_by_columns(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(AWS + "\n", "utf-8")
    assert is_skypilot(path)
    path.write_text("model,processor,ttft_ms\n", "utf-8")
    assert not is_skypilot(path)
