"""Fake trees of /proc, /sys and /dev, as the kernels of several machines lay them out."""

from __future__ import annotations

from pathlib import Path

from polysilicon.catalog.machine import Machine

ARM = (
    "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd sve\nCPU implementer\t: {}\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {}\nCPU revision\t: 1\n\n"
)
X86 = (
    "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {}\nmodel\t\t: {}\nmodel name\t: {}\n"
    "stepping\t: {}\nflags\t\t: fpu sse2 {}\n\n"
)
AZURE = "7783-7084-3265-9085-8269-3286-77"

MACHINE = Machine(cpu="a chip", arch="x86_64", cores=8, memory_bytes=32 * 2**30)


class Tree:
    """A root folder; each method adds to it and returns it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, text: str | bytes = "") -> Tree:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def arm(self, implementer: str, part: str) -> Tree:
        return self.put("proc/cpuinfo", ARM.format(implementer, part) * 4)

    def x86(self, vendor: str, numbers: str, name: str = "", flags: str = "") -> Tree:
        family, model, stepping = numbers.split(":")
        return self.put("proc/cpuinfo", X86.format(vendor, family, model, name, stepping, flags))

    def dmi(self, vendor: str = "", product: str = "", tag: str = "") -> Tree:
        self.put("sys/class/dmi/id/sys_vendor", vendor + "\n")
        self.put("sys/class/dmi/id/product_name", product + "\n")
        return self.put("sys/class/dmi/id/chassis_asset_tag", tag + "\n")

    def pci(self, *devices: str) -> Tree:
        """Add devices, each as `vendor:device:class`."""
        for number, device in enumerate(devices):
            vendor, model, kind = device.split(":")
            folder = f"sys/bus/pci/devices/0000:{number:02x}:00.0"
            self.put(f"{folder}/vendor", f"0x{vendor}\n").put(f"{folder}/device", f"0x{model}\n")
            self.put(f"{folder}/class", f"0x{kind}\n")
        return self

    def kfd(self, *nodes: tuple[int, int, int]) -> Tree:
        """Add nodes of ROCm's topology: SIMDs, device, location."""
        for number, (simds, device, location) in enumerate(nodes):
            text = f"simd_count {simds}\nvendor_id 4098\ndevice_id {device}\n"
            text += f"location_id {location}\ndomain 0\n"
            self.put(f"sys/class/kfd/kfd/topology/nodes/{number}/properties", text)
        return self

    def nvidia(self, *names: str) -> Tree:
        for number, name in enumerate(names):
            folder = f"proc/driver/nvidia/gpus/0000:{number:02x}:00.0"
            self.put(f"{folder}/information", f"Model: \t\t {name}\nIRQ:   \t\t 31\n")
            self.put(f"dev/nvidia{number}")
        return self.put("dev/nvidiactl")
