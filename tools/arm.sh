#!/bin/sh
# Runs Polysilicon as on an Arm server, by emulation: what is computed there, and never how fast.
#
#   tools/arm.sh prepare FOLDER           makes Debian 12 for arm64 in FOLDER, with all packages (0.9 GB)
#   tools/arm.sh CPU FOLDER COMMAND...    runs a command there, as on a CPU: a72, n1, v1 or v2
#
# such as
#
#   tools/arm.sh v2 /tmp/arm python3 -m polysilicon pool machine
#   tools/arm.sh v2 /tmp/arm python3 -m pytest tests/runtime/engines/test_native_graph.py
#
# Of Debian it needs mmdebstrap, qemu-user-static and g++-aarch64-linux-gnu, of Linux 6.7 or newer, as root. In FOLDER
# all is emulated but gcc and g++: these are the cross compiler of this machine, which would take hours there.
# The checkout is at /mnt there. What is registered and mounted for it ends with the command.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)

prepare() {
    packages=bash,coreutils,dash,findutils,grep,sed,tar,gzip,libc-bin,python3,libgomp1,libstdc++6
    mmdebstrap --arch=arm64 --variant=extract --include="$packages" bookworm "$1"
    "$here/.venv/bin/uv" pip install --quiet --python-platform aarch64-manylinux_2_28 --python-version 3.11 \
        --only-binary :all: --target "$1/opt/packages" --constraint "$here/requirements.lock" \
        --requirement "$here/pyproject.toml" pip pytest hypothesis gguf
    # Itself for what says its version; the code is that of the checkout.
    "$here/.venv/bin/pip" install --quiet --no-deps --no-build-isolation --target "$1/opt/packages" "$here"
    mkdir -p "$1/root/.cache" "$1/lib64" "$1/lib/x86_64-linux-gnu" \
        "$1/usr/lib/x86_64-linux-gnu" "$1/usr/lib/gcc-cross" "$1/usr/aarch64-linux-gnu" "$1/usr/host" "$1/mnt" "$1/etc/ssl"
    touch "$1/etc/resolv.conf"
    for name in gcc g++ as ld; do
        ln -sf "/usr/host/aarch64-linux-gnu-$name" "$1/usr/bin/aarch64-linux-gnu-$name"
    done
    ln -sf /usr/bin/aarch64-linux-gnu-gcc "$1/usr/bin/gcc"
    ln -sf /usr/bin/aarch64-linux-gnu-g++ "$1/usr/bin/g++"
}

# What the kernel of such a CPU says of it, and what the emulator calls it.
as_on() {
    oldest="fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
    dot="$oldest atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"
    sve="$dot sve svei8mm svebf16 i8mm bf16 dgh rng"
    case $1 in
        a72) part=0xd08 features=$oldest QEMU_CPU=cortex-a72 ;;
        n1) part=0xd0c features=$dot QEMU_CPU=neoverse-n1 ;;
        v1) part=0xd40 features=$sve QEMU_CPU=max,sve-max-vq=2 ;;
        v2) part=0xd4f features="$sve sve2 sveaes svebitperm" QEMU_CPU=max,sve-max-vq=1 ;;
        *) echo "no CPU $1: a72, n1, v1 or v2" >&2 && exit 2 ;;
    esac
    export QEMU_CPU
    for number in $(seq 0 $(($(nproc) - 1))); do
        printf 'processor\t: %s\nBogoMIPS\t: 100.00\nFeatures\t: %s\n' "$number" "$features"
        printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: %s\n\n' $part
    done > "$2/tmp/cpuinfo"
}

# In namespaces of its own: programs for Arm start the emulator, and the folder is the root.
inside() {
    root=$1
    shift
    magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
    mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf '%s' ":aarch64:M::$magic:$mask:$(command -v qemu-aarch64-static):OCF" > /proc/sys/fs/binfmt_misc/register
    mount -t proc proc "$root/proc"
    mount --bind "$root/tmp/cpuinfo" "$root/proc/cpuinfo"
    mount --rbind /dev "$root/dev"
    mount --bind "$here" "$root/mnt"
    for part in lib64 lib/x86_64-linux-gnu usr/lib/x86_64-linux-gnu usr/lib/gcc-cross usr/aarch64-linux-gnu \
        etc/ssl etc/resolv.conf; do
        mount --bind "/$part" "$root/$part"
    done
    mount --bind /usr/bin "$root/usr/host"
    HOME=/root PYTHONPATH=/mnt/src:/opt/packages PATH=/usr/bin:/bin:/usr/sbin:/sbin \
        PYTHONDONTWRITEBYTECODE=1 exec chroot "$root" /bin/sh -c 'cd /mnt && exec "$@"' sh "$@"
}

case ${1:-} in
    prepare) prepare "$2" ;;
    inside) shift && inside "$@" ;;
    "") sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
    *)
        as_on "$1" "$2"
        root=$2
        shift 2
        exec unshare --user --map-root-user --mount --pid --fork --mount-proc "$0" inside "$root" "$@"
        ;;
esac
