//! `vfiomux-load`: drives vhost-user disks.
#![forbid(unsafe_code)]

use clap::Parser as _;
use vfiomux_load::Arguments;

fn main() {
    let _arguments = Arguments::parse();
}
