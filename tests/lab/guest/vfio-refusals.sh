# What must not be taken, or not be overwritten, is not, and the complaint says why.
# variables: ADDRESS

start_daemon
refused 'no PCI function' ctl device claim 0000:77:00.0

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
wait_until 10 ctl channel destroy a
stop_daemon

# Naming a device on the command line is no leave to pull it from under a filesystem.
give_back_to nvme "$ADDRESS"
wait_until 20 test -b /dev/nvme0n1
/host/mke2fs -q -t ext4 -F /dev/nvme0n1
mount -t ext4 /dev/nvme0n1 /mnt
start_daemon --device "$ADDRESS"
device_shows "$ADDRESS" '"state": ?"failed"' || fail 'a device in use was taken'
ctl device show "$ADDRESS" --json | grep '"reason"' | grep -q /mnt || fail 'the reason does not name the mount'
expect 'the driver of a device in use' "$(driver_of "$ADDRESS")" nvme
stop_daemon
report 'refused'
