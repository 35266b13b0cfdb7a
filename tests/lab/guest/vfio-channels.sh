# The whole life of a controller with two tenants: claimed from its kernel driver, formatted, carved; both channels checked at the same
# time; the daemon restarted; a channel's place given to another; all destroyed, and the controller given back.
# variables: ADDRESS, QUEUES, CHANNEL_SIZE, OPERATIONS, SEGMENTS

expect 'the driver at first' "$(driver_of "$ADDRESS")" nvme
start_daemon
device_shows "$ADDRESS" '"driver": ?"nvme"' || fail 'the unclaimed controller is not listed with its driver'

ctl device claim "$ADDRESS"
expect 'the driver of a claimed device' "$(driver_of "$ADDRESS")" vfio-pci
ctl device format "$ADDRESS"
create_channel a "$ADDRESS" "$CHANNEL_SIZE" "$QUEUES"
create_channel b "$ADDRESS" "$CHANNEL_SIZE" "$QUEUES"
report 'carved'

workload="--rings $QUEUES --operations $OPERATIONS --segments $SEGMENTS --span-bytes 4194304"
check a --identity 1 --seed 1 --initially-zero --remember /tmp/a $workload &
first=$!
check b --identity 2 --seed 2 --initially-zero --remember /tmp/b $workload
wait "$first"
# Now that both are done: whether either left something where the other's data is.
check a --identity 1 --recall /tmp/a $workload --operations 0
check b --identity 2 --recall /tmp/b $workload --operations 0
report 'verified'

stop_daemon
start_daemon --device "$ADDRESS"
check a --identity 1 --seed 3 --recall /tmp/a --remember /tmp/a $workload
check b --identity 2 --recall /tmp/b $workload --operations 0
report 'restarted'

# By force: the daemon need not have noticed yet that the front-end is gone.
ctl channel destroy a --force
create_channel c "$ADDRESS" "$CHANNEL_SIZE" "$QUEUES"
check c --identity 3 --seed 4 --initially-zero $workload
check b --identity 2 --recall /tmp/b $workload --operations 0
report 'scrubbed'

refused 'channel' ctl device release "$ADDRESS"
wait_until 10 ctl channel destroy b
wait_until 10 ctl channel destroy c
ctl device release "$ADDRESS"
expect 'the driver of a released device' "$(driver_of "$ADDRESS")" nvme
stop_daemon
report 'released'
