# Owning a PCI function, step by step, by the program vfiomux-probe.
# variables: ADDRESS, DRIVER (its own), STEP
# modules: vfio-pci and the function's own driver

probe=/host/vfiomux-probe

# Runs the probe and passes on what it prints; `refused` expects it to fail.
step() { "$probe" "$@" >/tmp/step 2>&1 || { pass_on; fail "vfiomux-probe $*"; }; pass_on; }
refused() { ! "$probe" "$@" >/tmp/step 2>&1 || { pass_on; fail "vfiomux-probe $* was not refused"; }; pass_on; }
pass_on() { while IFS= read -r line; do report "$line"; done </tmp/step; }

driver_of() { basename "$(readlink -f "/sys/bus/pci/devices/$1/driver")"; }

case $STEP in
claim)
    wait_until 10 test -b /dev/nvme0n1
    refused probe "$ADDRESS"
    mkswap /dev/nvme0n1 >/dev/null
    swapon /dev/nvme0n1
    refused claim "$ADDRESS"
    swapoff /dev/nvme0n1
    sleep 100 </dev/nvme0n1 &
    wait_until 10 sh -c "ls -l /proc/$!/fd | grep -q nvme0n1"
    refused claim "$ADDRESS"
    kill $!
    wait $! || true
    expect driver "$(driver_of "$ADDRESS")" "$DRIVER"
    step claim "$ADDRESS"
    step claim "$ADDRESS"
    step probe "$ADDRESS"
    step release "$ADDRESS" "$DRIVER"
    expect driver "$(driver_of "$ADDRESS")" "$DRIVER"
    wait_until 10 test -b /dev/nvme0n1
    step release "$ADDRESS" "$DRIVER"
    refused claim 0000:00:00.0
    refused claim 0000:42:00.0
    ;;
group)
    other=${ADDRESS%.0}.1
    wait_until 10 test -b /dev/nvme1n1
    refused claim "$ADDRESS"
    echo "$other" >"/sys/bus/pci/devices/$other/driver/unbind"
    step claim "$ADDRESS"
    step claim "$other"
    step group "$ADDRESS" "$other"
    step release "$ADDRESS" "$DRIVER"
    ;;
refused)
    step claim "$ADDRESS"
    refused probe "$ADDRESS"
    ;;
*)
    step claim "$ADDRESS"
    # The host acts when it reads the line that the probe waits with, so lines must come as they are printed.
    mkfifo /tmp/output
    while IFS= read -r line; do report "$line"; done </tmp/output &
    "$probe" "$STEP" "$ADDRESS" >/tmp/output || fail "vfiomux-probe $STEP $ADDRESS"
    wait
    ;;
esac
