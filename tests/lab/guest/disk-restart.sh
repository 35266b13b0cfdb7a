# The back-end crashes and comes back while a filesystem is written to: the guest notices nothing but a pause.
# variables: DISK

wait_until 20 test -b "/dev/$DISK"
/host/mke2fs -q -t ext4 "/dev/$DISK"
mount -t ext4 "/dev/$DISK" /mnt
seeded_bytes 256 1 >/tmp/data
for number in 1 2 3 4 5 6 7 8; do
    [ "$number" != 4 ] || report 'crash'
    cp /tmp/data "/mnt/file-$number"
    sync
done
report 'written'
drop_caches
for number in 1 2 3 4 5 6 7 8; do
    cmp /tmp/data "/mnt/file-$number" || fail "file $number came back changed"
done
umount /mnt
! dmesg | grep -E "I/O error|EXT4-fs error" >/tmp/errors || fail "the guest saw $(head -n 1 /tmp/errors)"
report 'verified'
