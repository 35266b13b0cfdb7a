# What the guests' scripts share. They run under `sh -eu`, so a command that fails ends them with the verdict "failed".

# Tells the host a line. The host waits for some of them before it acts on the machine.
report() { printf '%s\n' "$*" >/dev/ttyS1; }

# Ends the script, saying why.
fail() {
    report "FAILED: $*"
    exit 1
}

# Tries a command every tenth of a second until it succeeds: wait_until SECONDS COMMAND…
wait_until() {
    tries=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "in vain, for too long: $*"
        sleep 0.1
    done
}

absent() { [ ! -e "$1" ]; }

# expect WHAT ACTUAL EXPECTED
expect() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }

# Writes SIZE_KIB of bytes that depend on SEED alone to standard output. The key stream is cheap, unlike a strong random source.
seeded_bytes() {
    awk -v seed="$2" -v blocks="$(($1))" 'BEGIN {
        for (block = 0; block < blocks; block++)
            for (line = 0; line < 16; line++)
                printf "%-63s\n", seed ":" block ":" line ":" (seed * 7919 + block * 104729 + line * 1299709) % 1000003
    }'
}

checksum_of() { sha256sum "$1" | cut -d ' ' -f 1; }

drop_caches() { sync; echo 3 >/proc/sys/vm/drop_caches; }

# What an operator does by hand where `vfiomuxctl device claim` is not to be had: bind_to_vfio ADDRESS
bind_to_vfio() {
    device=/sys/bus/pci/devices/$1
    [ -e "$device/iommu_group" ] || fail "$1 has no IOMMU group"
    [ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind"
    echo vfio-pci >"$device/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    [ "$(basename "$(readlink -f "$device/driver")")" = vfio-pci ] || fail "$1 was not bound to vfio-pci"
}
