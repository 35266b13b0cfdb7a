//! Runs one program in a guest of the VFIO lab, with an NVMe controller bound to vfio-pci at 0000:00:01.0, and prints what it prints.
//!
//! For trying things by hand: `cargo run -p vfiomux-tests --bin vfiomux-lab -- target/debug/vfiomuxd --version`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vfiomux_tests::lab::Lab;
use vfiomux_tests::vfio::{VfioMachine, vfio_guest};

/// Runs a program in a guest with an emulated IOMMU and an NVMe controller bound to vfio-pci at 0000:00:01.0.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Options of QEMU's intel-iommu device
    #[arg(long, default_value = "intremap=on,aw-bits=48")]
    iommu: String,
    /// Options of QEMU's nvme device, as `,max_ioqpairs=1,mdts=5`
    #[arg(long, default_value = "")]
    controller: String,
    /// Options of its one namespace, as `,logical_block_size=4096`
    #[arg(long, default_value = "")]
    namespace: String,
    /// Further programs to put beside it
    #[arg(long, value_name = "PROGRAM")]
    with: Vec<PathBuf>,
    /// The program, built on this machine, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "PROGRAM [ARGUMENT]"
    )]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let Some(lab) = Lab::find_or_skip() else { return ExitCode::FAILURE };
    match run(&lab, &Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfiomux-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(lab: &Lab, arguments: &Arguments) -> std::io::Result<()> {
    let (program, rest) = arguments.command.split_first().expect("clap requires a program");
    let program = PathBuf::from(program);
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let quoted = rest.iter().map(|argument| format!(" '{}'", argument.replace('\'', r"'\''")));
    let command_line = format!("/host/{name}{}", quoted.collect::<String>());
    let mut guest = vfio_guest(lab, "program.sh")?.variable("COMMAND_LINE", &command_line);
    for program in arguments.with.iter().chain([&program]) {
        guest = guest.program(program)?;
    }
    let machine = VfioMachine::new(lab, guest, &arguments.iommu)?
        .controller(&arguments.controller, &[(256, &arguments.namespace)])?
        .build();
    let report = machine.try_run(|_| Ok(())).map_err(std::io::Error::other)?;
    for line in report.lines {
        println!("{line}");
    }
    Ok(())
}
