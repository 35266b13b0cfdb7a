# A controller is lost under load. Every request ends, the loss is told, the daemon lives on, and the controller can be taken again when it
# is back.
# variables: ADDRESS, COMES_BACK

bind_to_vfio "$ADDRESS"
start_daemon --device "$ADDRESS"
ctl device format "$ADDRESS"
create_channel a "$ADDRESS" 32M 1
/host/vfiomux-check /run/vfiomux/a.sock --until-error --operations 100000000 --no-sweep --patience-seconds 8 >/tmp/check-a 2>&1 &
load=$!
wait_until 20 test -S /run/vfiomux/a.sock
sleep 1
report 'lose it'
wait "$load" || fail "the load did not end in an error that it was told of: $(cat /tmp/check-a)"
wait_until 20 device_shows "$ADDRESS" '"state": ?"(lost|failed|absent)"'
ctl events --json >/tmp/events
grep -q "$ADDRESS" /tmp/events || fail 'no event names the lost controller'
ctl status >/dev/null
report "lost $(cat /tmp/check-a)"

[ "$COMES_BACK" = yes ] || exit 0
wait_until 30 test -e "/sys/bus/pci/devices/$ADDRESS/vendor"
wait_until 30 ctl device claim "$ADDRESS"
device_shows "$ADDRESS" '"formatted": ?true' || fail 'the label did not survive'
report 'back'
