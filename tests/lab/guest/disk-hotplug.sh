# A disk comes and goes under a running guest, whose other disk is at work all the while.
# variables: DISK, HOTPLUGGED_DISK

wait_until 20 test -b "/dev/$DISK"
/host/mke2fs -q -t ext4 "/dev/$DISK"
mount -t ext4 "/dev/$DISK" /mnt

# The bystander: copies and compares until told to stop; leaves a file behind if it ever fails.
seeded_bytes 256 1 >/tmp/data
(
    while absent /tmp/stop; do
        cp /tmp/data /mnt/copy && sync && cmp /tmp/data /mnt/copy && echo round >>/tmp/rounds || { touch /tmp/disturbed; break; }
    done
) &

for round in 1 2; do
    report "plug $round"
    wait_until 20 test -b "/dev/$HOTPLUGGED_DISK"
    dd if=/tmp/data "of=/dev/$HOTPLUGGED_DISK" bs=64k oflag=direct conv=notrunc,fsync 2>/dev/null
    dd "if=/dev/$HOTPLUGGED_DISK" of=/tmp/read bs=64k count=4 iflag=direct 2>/dev/null
    cmp /tmp/data /tmp/read || fail "the plugged disk gives back something else (round $round)"
    report "unplug $round"
    wait_until 20 absent "/sys/block/$HOTPLUGGED_DISK"
    report "gone $round"
done

touch /tmp/stop
wait
absent /tmp/disturbed || fail 'the disk that stayed was disturbed'
report "bystander $(wc -l </tmp/rounds)"
umount /mnt
