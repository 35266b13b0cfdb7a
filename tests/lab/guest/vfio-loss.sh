# A controller is lost under load: the daemon lives on, and tells of it. Its channel is quarantined, so that a request which the controller
# can no longer serve either failed or stands still, but never ends well. When the controller is back it is taken again, and the channel goes
# on with the data that was written.
# variables: ADDRESS, COMES_BACK

bind_to_vfio "$ADDRESS"
start_daemon --device "$ADDRESS"
ctl device format "$ADDRESS"
create_channel a "$ADDRESS" 32M 1
check a --initially-zero --operations 100 --remember /tmp/a
/host/vfiomux-check /run/vfiomux/a.sock --until-error --operations 100000000 --no-sweep --patience-seconds 5 \
    --span-bytes 4194304 --recall /tmp/a --remember /tmp/a >/tmp/check-load 2>&1 &
load=$!
sleep 2
report 'lose it'
wait "$load" || grep -q 'nothing completed' /tmp/check-load || fail "the load: $(cat /tmp/check-load)"

wait_until 20 device_shows "$ADDRESS" '"state": ?"lost"'
wait_until 20 channel_shows a '"oper": ?"quarantined"'
channel_shows a "\"oper\": ?\"[^\"]*$ADDRESS" || fail 'the quarantine does not name the lost controller'
ctl events --json >/tmp/events
grep -q lost /tmp/events && grep -q quarantined /tmp/events || fail 'no event tells of the loss'
ctl status >/dev/null
check_trace
report "lost $(cat /tmp/check-load)"
[ "$COMES_BACK" = yes ] || exit 0

wait_until 30 test -e "/sys/bus/pci/devices/$ADDRESS/vendor"
wait_until 30 ctl device claim "$ADDRESS"
device_shows "$ADDRESS" '"formatted": ?true' || fail 'the label did not survive'
ctl channel resume a
# A load that stood still could not say in the end what it had written.
if grep -q '"verified":true' /tmp/check-load; then check a --recall /tmp/a; else check a; fi
check_trace
report 'back'
