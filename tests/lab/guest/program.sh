# Runs one program with every NVMe controller bound to vfio-pci, and passes on what it prints.
# variables: COMMAND_LINE

for device in /sys/bus/pci/devices/*; do
    [ "$(cat "$device/class")" = 0x010802 ] || continue
    bind_to_vfio "$(basename "$device")"
done
mkfifo /tmp/output
while IFS= read -r line; do report "$line"; done </tmp/output &
status=0
sh -c "$COMMAND_LINE" >/tmp/output 2>&1 || status=$?
wait
expect 'exit status' "$status" 0
