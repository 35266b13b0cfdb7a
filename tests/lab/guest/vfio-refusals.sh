# What must not be taken, or not be overwritten, is not, and the complaint says why.
# variables: ADDRESS

start_daemon
refused 'not|no such|unknown' ctl device claim 0000:77:00.0

wait_until 20 test -b /dev/nvme0n1
/host/mke2fs -q -t ext4 /dev/nvme0n1
mount -t ext4 /dev/nvme0n1 /mnt
refused '/mnt' ctl device claim "$ADDRESS"
expect 'the driver after a refused claim' "$(driver_of "$ADDRESS")" nvme
umount /mnt

refused 'claim' create_channel a "$ADDRESS" 16M 1
ctl device claim "$ADDRESS"
refused 'ext4' ctl device format "$ADDRESS"
ctl device format "$ADDRESS" --erase
refused 'room|full|free|left' create_channel huge "$ADDRESS" 1T 1
create_channel a "$ADDRESS" 16M 1
check a --operations 50
refused 'use|exist' create_channel a "$ADDRESS" 16M 1
ctl channel destroy a
stop_daemon

# Bound to the kernel's driver again, by hand: the daemon must not steal it.
echo >"/sys/bus/pci/devices/$ADDRESS/driver_override"
[ "$(driver_of "$ADDRESS")" != vfio-pci ] || echo "$ADDRESS" >/sys/bus/pci/drivers/vfio-pci/unbind
echo "$ADDRESS" >/sys/bus/pci/drivers_probe
expect 'the driver' "$(driver_of "$ADDRESS")" nvme
refused "$ADDRESS.*nvme.*claim" timeout 20 /host/vfiomuxd --device "$ADDRESS" --state-dir /run/other --control /run/other.sock
report 'refused'
