# Without interrupt remapping the kernel lets nobody own a function through VFIO: the daemon must say so.
# variables: ADDRESS

bind_to_vfio "$ADDRESS"
start_daemon --device "$ADDRESS"
device_shows "$ADDRESS" '"state": ?"failed"' || fail 'the controller was taken'
report "said $(ctl device show "$ADDRESS" --json | grep '"reason"')"
stop_daemon
