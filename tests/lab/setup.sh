#!/bin/bash
# Makes this machine ready for the tests that run real virtual machines (tests/tests/vmm.rs and tests/tests/lab.rs).
#
# It installs QEMU, and unpacks, without installing them, a Debian kernel with the modules that the guests load and a static
# busybox into target/lab/:
#
#   vmlinuz            the kernel that every guest boots
#   modules/           its modules, decompressed, and modules.builtin
#   busybox            the guests' userland
#   kernel-package     name and version of the package that the kernel came from; written last, so it means "complete"
#   unavailable        written instead when something cannot be had here: the reason, one line
#
# Runs again in no time when everything is there. Exit status: 0 ready; 69 (EX_UNAVAILABLE) cannot be had on this machine, with
# the reason in target/lab/unavailable and on standard error after `SKIPPED:`; anything else is a failure to look into.
set -euo pipefail

readonly EX_UNAVAILABLE=69
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
readonly repository
readonly lab=${CARGO_TARGET_DIR:-$repository/target}/lab
mkdir -p "$lab"

# Directories of the kernel's module tree that some guest loads from. The whole tree is 400 MB, this is 25.
readonly module_directories=(
    arch/x86/crypto block crypto drivers/block drivers/iommu drivers/nvme drivers/vfio drivers/virtio fs/ext4 fs/jbd2
    fs/mbcache lib virt
)

unavailable() {
    printf '%s\n' "$*" >"$lab/unavailable"
    printf 'SKIPPED: tests with virtual machines: %s\n' "$*" >&2
    exit "$EX_UNAVAILABLE"
}

# The last line of a command's complaint is the one that says why.
reason_of() { grep -v '^$' "$1" | tail -n 1; }

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }

installed() {
    command -v qemu-system-x86_64 >/dev/null && command -v strace >/dev/null && [ -x /sbin/mke2fs ]
}

# A kit that an older version of this script made may lack what a guest needs today.
complete() {
    installed && [ "$lab/kernel-package" -nt "${BASH_SOURCE[0]}" ] && [ -s "$lab/vmlinuz" ] && [ -x "$lab/busybox" ]
}

if complete; then
    rm -f "$lab/unavailable"
    exit 0
fi

command -v apt-get >/dev/null || unavailable 'needs Debian (no apt-get here)'
[ "$(dpkg --print-architecture)" = amd64 ] || unavailable 'needs an amd64 machine'

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
log=$scratch/log

# A source that has nothing to do with us may be out of reach: whether the packages can be had is seen when they are fetched.
[ "$(id -u)" -ne 0 ] || apt update >"$log" 2>&1 || true

if ! installed; then
    [ "$(id -u)" -eq 0 ] ||
        unavailable 'qemu-system-x86, strace or e2fsprogs is not installed; run tests/lab/setup.sh as root'
    apt install --no-install-recommends qemu-system-x86 strace e2fsprogs xz-utils >"$log" 2>&1 ||
        unavailable "qemu-system-x86 cannot be installed: $(reason_of "$log")"
fi

# From here on whatever is missing is a fault of the network or of this script, not of a machine without QEMU. In CI such a fault
# must not pass for a machine that cannot run the tests.
missing() {
    if [ "${CI:-}" = true ]; then
        printf 'tests/lab/setup.sh: %s\n' "$*" >&2
        exit 1
    fi
    unavailable "$*"
}

cd "$scratch"
kernel=$(apt-cache depends --important linux-image-amd64 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || missing 'no Debian kernel package (linux-image-amd64) is known here; run apt-get update'
# Fetching as root into a private directory makes apt warn that its own user cannot write there; that is harmless.
apt-get -q download "$kernel" busybox-static >"$log" 2>&1 || missing "$kernel cannot be downloaded: $(reason_of "$log")"

rm -rf "$lab/modules" "$lab/kernel-package"
mkdir -p "$lab/modules"
wanted=(--wildcards './boot/vmlinuz-*' './lib/modules/*/modules.builtin' './usr/lib/modules/*/modules.builtin')
for directory in "${module_directories[@]}"; do
    wanted+=("*/kernel/$directory/*" "*/kernel/$directory.ko*")
done
# tar fails when a pattern matches nothing, and Debian moved the modules from /lib to /usr/lib: what counts is what came out.
dpkg-deb --fsys-tarfile "$kernel"_*.deb | tar -x "${wanted[@]}" 2>"$log" || true
[ -d lib/modules ] || mv usr/lib lib
mv boot/vmlinuz-* "$lab/vmlinuz"
mv lib/modules/*/* "$lab/modules/"
find "$lab/modules" -name '*.ko.xz' -exec xz -d {} +

dpkg-deb -x busybox-static_*.deb busybox
cp "$(find busybox -path '*bin/busybox' -type f)" "$lab/busybox"

basename "$kernel"_*.deb .deb >"$lab/kernel-package"
rm -f "$lab/unavailable"
printf 'tests/lab: ready: %s, %s\n' "$(qemu-system-x86_64 --version | head -n 1)" "$(cat "$lab/kernel-package")"
