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

# give_back_to DRIVER ADDRESS
give_back_to() {
    device=/sys/bus/pci/devices/$2
    [ ! -e "$device/driver" ] || echo "$2" >"$device/driver/unbind"
    echo >"$device/driver_override"
    echo "$2" >/sys/bus/pci/drivers_probe
    [ "$(driver_of "$2")" = "$1" ] || fail "$2 was not bound to $1"
}

# --- the programs under test -----------------------------------------------------------------------------------------------------

control=/run/vfiomux/control.sock

ctl() { /host/vfiomuxctl --control "$control" "$@"; }

# Starts the daemon with these arguments and waits until it is ready.
start_daemon() {
    mkdir -p /run/vfiomux
    : >/tmp/vfiomuxd.ready
    /host/vfiomuxd "$@" --state-dir /run/vfiomux/state --control "$control" >/tmp/vfiomuxd.ready 2>>/tmp/vfiomuxd.log &
    daemon=$!
    wait_until 30 grep -q '^ready' /tmp/vfiomuxd.ready
}

# What the daemon has recorded must be able to have happened.
check_trace() { /host/vfiomux-trace "$control" >/tmp/trace 2>&1 || fail "$(cat /tmp/trace)"; }

# Ends the daemon as systemd does; it must end well.
stop_daemon() {
    check_trace
    kill -TERM "$daemon"
    wait "$daemon" || fail "vfiomuxd ended with status $?"
}

create_channel() { # NAME DEVICE SIZE QUEUES
    ctl channel create "$1" --device "$2" --tenant "tenant-$1" --size "$3" --queues "$4" --endpoint "/run/vfiomux/$1.sock"
}

# Checks a channel's data: check NAME OPTION…
check() {
    channel=$1
    shift
    /host/vfiomux-check "/run/vfiomux/$channel.sock" "$@" >"/tmp/check-$channel" 2>&1 ||
        fail "channel $channel: $(cat "/tmp/check-$channel")"
}

# A command that must be refused, with a complaint that says what is meant: refused PATTERN COMMAND…
refused() {
    pattern=$1
    shift
    ! "$@" >/tmp/refused 2>&1 || fail "was not refused: $*"
    grep -Eqi "$pattern" /tmp/refused || fail "$*: does not say '$pattern': $(cat /tmp/refused)"
}

driver_of() { basename "$(readlink -f "/sys/bus/pci/devices/$1/driver" || echo none)"; }

# device_shows ADDRESS PATTERN, channel_shows NAME PATTERN: whether the daemon's description has a line that matches.
device_shows() { ctl device show "$1" --json | tr ',' '\n' | grep -Eq "$2"; }
channel_shows() { ctl channel show "$1" --json | tr ',' '\n' | grep -Eq "$2"; }
