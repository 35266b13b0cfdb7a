# A disk's requests one kind at a time, on the raw device: direct writes and reads of many sizes on both queues at once, flush, write
# zeroes, discard, each leaving its neighbours alone.
# variables: DISK, QUEUES

device=/dev/$DISK
wait_until 20 test -b "$device"
expect 'number of queues' "$(ls "/sys/block/$DISK/mq" | wc -l)" "$QUEUES"

direct_write() { dd if="$1" of="$device" bs="$2" seek="$3" oflag=direct conv=notrunc,fsync 2>/dev/null; }
direct_read() { dd if="$device" of="$4" bs="$1" skip="$2" count="$3" iflag=direct 2>/dev/null; }
# compare OFFSET_MIB FILE: whether the disk holds the file, which is 1 MiB, at that offset.
holds() {
    direct_read 64k $(($1 * 16)) 16 /tmp/read
    expect "the MiB at $1" "$(checksum_of /tmp/read)" "$(checksum_of "$2")"
}

seeded_bytes 1024 1 >/tmp/one
seeded_bytes 1024 2 >/tmp/two
head -c 1048576 /dev/zero >/tmp/zeros

# Sizes from one block to the whole, the last larger than any transfer that a small device takes.
for size_kib in 4 16 128 1024; do
    direct_write /tmp/one "${size_kib}k" 0
    direct_write /tmp/two "${size_kib}k" $((1024 / size_kib))
    holds 0 /tmp/one
    holds 1 /tmp/two
done
report 'direct'

# On two processors at once, each on its own queue; then what each wrote is read on the other.
for processor in 0 1; do
    [ "$processor" = 0 ] && file=/tmp/one || file=/tmp/two
    taskset -c "$processor" dd "if=$file" "of=$device" bs=4k "seek=$((2048 + processor * 256))" \
        oflag=direct conv=notrunc 2>/dev/null &
done
wait
taskset -c 1 dd "if=$device" of=/tmp/read bs=64k skip=128 count=16 iflag=direct 2>/dev/null
expect 'what processor 0 wrote' "$(checksum_of /tmp/read)" "$(checksum_of /tmp/one)"
taskset -c 0 dd "if=$device" of=/tmp/read bs=64k skip=144 count=16 iflag=direct 2>/dev/null
expect 'what processor 1 wrote' "$(checksum_of /tmp/read)" "$(checksum_of /tmp/two)"
report 'queues'

for mib in 16 17 18 19 20; do direct_write /tmp/one 1024k "$mib"; done
/host/blkdiscard --zeroout --offset 17825792 --length 1048576 "$device"
holds 16 /tmp/one
holds 17 /tmp/zeros
holds 18 /tmp/one
report 'write zeroes'

[ "$(cat "/sys/block/$DISK/queue/discard_max_bytes")" -gt 0 ] || fail 'the disk offers no discard'
/host/blkdiscard --offset 19922944 --length 1048576 "$device"
holds 18 /tmp/one
holds 20 /tmp/one
# What a discarded range holds is not promised; that it can be written again is.
direct_write /tmp/two 1024k 19
holds 19 /tmp/two
report 'discard'
