# The kernel's own side of the lab: with an IOMMU and interrupt remapping, a controller can be bound to vfio-pci and has a group.
# variables: ADDRESS

device=/sys/bus/pci/devices/$ADDRESS
bind_to_vfio "$ADDRESS"
group=$(basename "$(readlink -f "$device/iommu_group")")
[ -c "/dev/vfio/$group" ] || fail "no /dev/vfio/$group"
report "members $(ls "$device/iommu_group/devices" | wc -l)"
