# A filesystem on a vhost-user disk keeps what is written to it: made, filled, synced, dropped from every cache, read back.
# variables: DISK, QUEUES, SIZE_SECTORS

wait_until 20 test -b "/dev/$DISK"
expect 'number of queues' "$(ls "/sys/block/$DISK/mq" | wc -l)" "$QUEUES"
expect 'size in sectors' "$(cat "/sys/block/$DISK/size")" "$SIZE_SECTORS"

/host/mke2fs -q -t ext4 "/dev/$DISK"
mount -t ext4 "/dev/$DISK" /mnt
mkdir /mnt/directory
seeded_bytes 1024 1 >/mnt/large
for number in 1 2 3 4 5 6 7 8 9 10; do
    seeded_bytes "$number" "$number" >"/mnt/directory/file-$number"
done
# One writer on each processor, so that both queues are used.
for processor in 0 1; do
    taskset -c "$processor" sh -c "cp /mnt/large /mnt/copy-$processor; sync" &
done
wait
written=$(cd /mnt && find . -type f | sort | xargs sha256sum)
sync
umount /mnt
drop_caches

mount -t ext4 "/dev/$DISK" /mnt
read_back=$(cd /mnt && find . -type f | sort | xargs sha256sum)
[ -n "$written" ] || fail 'wrote no file'
expect 'what was read back' "$read_back" "$written"
umount /mnt
report "verified $(echo "$written" | wc -l) files"
