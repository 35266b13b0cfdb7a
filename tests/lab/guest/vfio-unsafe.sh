# Without interrupt remapping the kernel lets nobody own a function through VFIO: the daemon must say so.
# variables: ADDRESS

bind_to_vfio "$ADDRESS"
refused 'interrupt' timeout 20 /host/vfiomuxd --device "$ADDRESS" --state-dir /run/state --control /run/control.sock
report "said $(grep -i interrupt /tmp/refused | head -n 1)"
