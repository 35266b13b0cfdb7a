//! What the `hw` crate promises of a PCI function, tried on a real kernel's VFIO, one step a command. Prints what it finds; the tests
//! read that.

use std::error::Error;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vfiomux_hw::inventory::Sysfs;
use vfiomux_hw::vfio::{VfioFunction, VfioOptions};
use vfiomux_hw::{Bar, Function, HwError, PciAddress, bind};

type Outcome = Result<(), Box<dyn Error>>;

/// Tries what the hw crate promises of a PCI function.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// List every function, with what holds it
    List,
    /// Bind a function to vfio-pci
    Claim { address: PciAddress },
    /// Give a function back to a driver
    Release { address: PciAddress, driver: Option<String> },
    /// Open, look at registers, memory and vectors, reset, close, open again
    Probe { address: PciAddress },
    /// Open two functions of one group, and close them one after the other
    Group { first: PciAddress, second: PciAddress },
    /// Open, wait for a removal request, close, and wait until the function is gone
    Unplug { address: PciAddress },
    /// Open, and wait for a fatal error
    Fail { address: PciAddress },
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome {
    let sysfs = Sysfs::new("/");
    match command {
        Command::List => list(&sysfs),
        Command::Claim { address } => claim(&sysfs, address),
        Command::Release { address, driver } => Ok(bind::release(&sysfs, address, driver.as_deref())?),
        Command::Probe { address } => probe(&sysfs, address),
        Command::Group { first, second } => group(&sysfs, first, second),
        Command::Unplug { address } => unplug(&sysfs, address),
        Command::Fail { address } => fail(&sysfs, address),
    }
}

fn list(sysfs: &Sysfs) -> Outcome {
    for function in sysfs.functions()? {
        let driver = function.driver.as_deref().unwrap_or("-");
        let group = function.group.as_ref().map_or("-".to_owned(), |group| group.id.to_string());
        println!("{} {} driver {driver} group {group}", function.address, function.class);
        for holder in &function.holders {
            println!("    {holder}");
        }
    }
    Ok(())
}

fn claim(sysfs: &Sysfs, address: PciAddress) -> Outcome {
    let claim = bind::claim(sysfs, address)?;
    println!("{} claimed from {}", claim.address, claim.previous_driver.as_deref().unwrap_or("no driver"));
    Ok(())
}

/// CAP and VS, the first registers of an NVMe controller.
fn registers(bar: &Bar) -> Result<(u64, u32), HwError> {
    Ok((bar.read64(0)?, bar.read32(8)?))
}

fn probe(sysfs: &Sysfs, address: PciAddress) -> Outcome {
    let opening = Instant::now();
    let mut function = VfioFunction::open(sysfs, address, VfioOptions::default())?;
    println!("open: {:?} in {:?}", function.identity(), opening.elapsed());

    let domain = function.domain();
    println!("apertures: {:x?}, page {}", domain.apertures(), domain.page_bytes());
    println!("mappings at most: {:?}", domain.mappings_max());

    let bar = function.bar(0)?;
    let (cap, vs) = registers(&bar)?;
    println!("BAR 0: {:#x} bytes, CAP {cap:#x}, VS {vs:#x}", bar.len());
    function.enable()?;

    let buffers = [4096, 3 << 20].map(|size| domain.allocate(size));
    for buffer in &buffers {
        let buffer = buffer.as_ref().map_err(ToString::to_string)?;
        println!("memory: {:#x} bytes at {}", buffer.len(), buffer.iova());
    }
    println!("ledger: {} mappings", domain.mappings().len());
    drop(buffers);
    println!("ledger: {} mappings", domain.mappings().len());

    println!("vectors: {} at most", function.vectors_max());
    for count in [1, function.vectors_max(), 2, 0] {
        println!("vectors: {} on", function.enable_vectors(count)?.len());
    }
    match function.enable_vectors(u16::MAX) {
        Ok(_) => return Err("more vectors than there are were turned on".into()),
        Err(error) => println!("vectors: {error}"),
    }
    let notices = function.notices();
    println!("notices: removal {}, error {}", notices.removal.is_some(), notices.error.is_some());

    let resetting = Instant::now();
    function.reset()?;
    function.enable()?;
    println!("reset: in {:?}, registers {}", resetting.elapsed(), same(registers(&bar)? == (cap, vs)));

    match VfioFunction::open(sysfs, address, VfioOptions::default()) {
        Ok(_) => return Err("one function was opened twice".into()),
        Err(error) => println!("second open: {error}"),
    }
    drop(function);
    println!("closed: BAR reads {:#x}, gone {}", bar.read32(0)?, bar.is_gone());
    // The domain outlives the function: its container still has the group, and serves the next opening.
    let function = VfioFunction::open(sysfs, address, VfioOptions::default())?;
    println!("opened again: domains {}", same(Arc::ptr_eq(&domain, &function.domain())));
    drop((function, domain));
    let function = VfioFunction::open(sysfs, address, VfioOptions::default())?;
    println!("opened afresh: registers {}", same(registers(&function.bar(0)?)? == (cap, vs)));
    Ok(())
}

fn group(sysfs: &Sysfs, first: PciAddress, second: PciAddress) -> Outcome {
    let open = |address| VfioFunction::open(sysfs, address, VfioOptions::default());
    let (one, two) = (open(first)?, open(second)?);
    let domain = two.domain();
    println!("two of a group: domains {}", same(Arc::ptr_eq(&one.domain(), &domain)));
    let before = domain.allocate(4096)?;
    drop(one);
    let (cap, _) = registers(&two.bar(0)?)?;
    println!("one closed: the other's CAP {cap:#x}, memory at {}", domain.allocate(4096)?.iova());
    let one = open(first)?;
    drop(two);
    println!("the other closed: memory at {}", one.domain().allocate(4096)?.iova());
    drop((one, before, domain));
    println!("both closed");
    open(second)?;
    println!("opened afresh");
    Ok(())
}

fn same(same: bool) -> &'static str {
    if same { "the same" } else { "DIFFERENT" }
}

fn unplug(sysfs: &Sysfs, address: PciAddress) -> Outcome {
    let function = VfioFunction::open(sysfs, address, VfioOptions::default())?;
    let bar = function.bar(0)?;
    let buffer = function.domain().allocate(4096)?;
    println!("waiting for removal");
    wait(function.notices().removal)?;
    println!("removal requested; CAP still reads {:#x}", bar.read64(0)?);
    drop(function);
    let deadline = Instant::now() + Duration::from_secs(20);
    while sysfs.function(address).is_ok() {
        if Instant::now() > deadline {
            return Err("the function was closed and is still there".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("unplugged; CAP reads {:#x}, gone {}", bar.read64(0)?, bar.is_gone());
    drop(buffer);
    println!("memory unmapped and freed");
    Ok(())
}

fn fail(sysfs: &Sysfs, address: PciAddress) -> Outcome {
    let mut function = VfioFunction::open(sysfs, address, VfioOptions::default())?;
    let bar = function.bar(0)?;
    println!("waiting for an error");
    wait(function.notices().error)?;
    println!("error reported; CAP reads {:#x}, gone {}", bar.read64(0)?, bar.is_gone());
    match function.reset() {
        Ok(()) => println!("reset; CAP reads {:#x}", bar.read64(0)?),
        Err(error) => println!("reset: {error}"),
    }
    Ok(())
}

/// Waits for an event descriptor, a minute at most.
fn wait(event: Option<BorrowedFd<'_>>) -> Outcome {
    let event = event.ok_or("the function has no such interrupt")?;
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(event, PollFlags::IN)], Some(&minute))? {
        0 => Err("nothing happened for a minute".into()),
        _ => Ok(()),
    }
}
