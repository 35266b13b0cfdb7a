# Driving an NVMe controller, by the program vfiomux-drive.
# variables: ADDRESS
# modules: vfio-pci and nvme

pass_on() { while IFS= read -r line; do report "$line"; done </tmp/step; }

/host/vfiomux-probe claim "$ADDRESS" >/tmp/step 2>&1 || { pass_on; fail "claim"; }
/host/vfiomux-drive "$ADDRESS" >/tmp/step 2>&1 || { pass_on; fail "vfiomux-drive"; }
pass_on
