//! One run of a virtual machine: started, watched, judged, and gone when its owner is.

use std::fs;
use std::io::{self, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::initramfs::Initramfs;
use crate::lab::Lab;
use crate::qmp::{Qmp, read_line};

/// What QEMU exits with when the guest writes 0x10 to the isa-debug-exit port: twice the value, plus one.
const PASSED: i32 = 0x10 * 2 + 1;
/// The same for 0x11.
const FAILED: i32 = 0x11 * 2 + 1;
/// What a guest that passed reports last.
const LAST_LINE: &str = "passed, and waiting to leave";
/// QEMU's way of dying of itself: multi-threaded TCG is known to hit an assertion now and then, single-threaded very rarely.
const SIGABRT: i32 = 6;
/// How long a machine that has failed may take to be gone, and its last lines to come.
const A_MOMENT: Duration = Duration::from_secs(1);
/// How much of the guest's console a failure shows.
const CONSOLE_TAIL_LINES: usize = 60;

/// Emulated machines compete for two cores with what they test, so one at a time. Under nextest, where every test is a process, a
/// test group does the same.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Why a run ended without its verdict being "passed".
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// QEMU itself aborted; says nothing about what is tested.
    #[error("QEMU aborted of itself, twice")]
    Aborted,
    /// Everything else, told with the report and the console's tail.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for VmError {
    fn from(error: io::Error) -> VmError {
        VmError::Failed(error.to_string())
    }
}

/// A machine to be started.
#[derive(Debug)]
pub struct VmBuilder {
    machine: &'static str,
    memory_mib: u32,
    kernel_parameters: String,
    arguments: Vec<String>,
    deadline: Duration,
    directory: tempfile::TempDir,
    kernel: PathBuf,
}

/// What a guest reported, line by line, and how long it ran.
#[derive(Debug)]
pub struct Report {
    /// Lines that the script wrote with `report`.
    pub lines: Vec<String>,
    /// From QEMU's start to its exit.
    pub took: Duration,
}

impl Report {
    /// The rest of the first line that begins with `key` and a space.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
    }
}

impl VmBuilder {
    /// A machine that boots the lab's kernel with this userland.
    pub fn new(lab: &Lab, initramfs: Initramfs) -> io::Result<VmBuilder> {
        let directory = tempfile::Builder::new().prefix("vfiomux-vm-").tempdir()?;
        initramfs.write(&directory.path().join("initramfs"))?;
        Ok(VmBuilder {
            machine: "q35",
            memory_mib: 512,
            kernel_parameters: String::new(),
            arguments: Vec::new(),
            deadline: Duration::from_secs(120),
            directory,
            kernel: lab.kernel(),
        })
    }

    /// A directory that lives as long as the builder, for sockets and images.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Sets the machine type with its options.
    pub fn machine(mut self, machine: &'static str) -> VmBuilder {
        self.machine = machine;
        self
    }

    /// Sets the guest's memory.
    pub fn memory_mib(mut self, memory_mib: u32) -> VmBuilder {
        self.memory_mib = memory_mib;
        self
    }

    /// Adds to the kernel's command line.
    pub fn kernel_parameter(mut self, parameter: &str) -> VmBuilder {
        self.kernel_parameters += " ";
        self.kernel_parameters += parameter;
        self
    }

    /// Adds arguments to QEMU's command line, separated by white space.
    pub fn arguments(mut self, arguments: &str) -> VmBuilder {
        self.arguments.extend(arguments.split_whitespace().map(str::to_owned));
        self
    }

    /// Sets the time within which the guest must have given its verdict.
    pub fn deadline(mut self, deadline: Duration) -> VmBuilder {
        self.deadline = deadline;
        self
    }

    /// Runs the machine to its end, with `host_side` acting on it meanwhile. Once more, from the start, when QEMU itself aborts.
    ///
    /// # Panics
    ///
    /// When the verdict is not "passed".
    #[track_caller]
    pub fn run(&self, host_side: impl FnMut(&mut Vm) -> Result<(), VmError>) -> Report {
        match self.try_run(host_side) {
            Ok(report) => report,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same for those who have something better to do than to panic.
    pub fn try_run(
        &self,
        mut host_side: impl FnMut(&mut Vm) -> Result<(), VmError>,
    ) -> Result<Report, VmError> {
        // A test that failed while it held the lock has spoilt nothing for the next.
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        match self.run_once(&mut host_side) {
            Err(VmError::Aborted) => {
                eprintln!("QEMU aborted of itself; once more");
                self.run_once(&mut host_side)
            }
            outcome => outcome,
        }
    }

    fn run_once(
        &self,
        host_side: &mut impl FnMut(&mut Vm) -> Result<(), VmError>,
    ) -> Result<Report, VmError> {
        let mut vm = self.start()?;
        let outcome = host_side(&mut vm).and_then(|()| vm.wait_for_verdict());
        let Err(error) = outcome else {
            return Ok(Report { took: vm.started.elapsed(), lines: std::mem::take(&mut vm.lines) });
        };
        let status = vm.exit_status_soon();
        if status.is_some_and(|status| status.signal() == Some(SIGABRT)) {
            return Err(VmError::Aborted);
        }
        vm.read_what_is_left();
        Err(VmError::Failed(format!(
            "{error}\nafter {:.1} s; QEMU {}\n--- reported ---\n{}\n--- console's tail ---\n{}\n---",
            vm.started.elapsed().as_secs_f32(),
            status.map_or_else(|| "runs".to_owned(), |status| format!("has ended: {status}")),
            vm.lines.join("\n"),
            vm.console_tail()
        )))
    }

    fn start(&self) -> Result<Vm, VmError> {
        let path = |name: &str| self.directory.path().join(name);
        // QEMU connects to sockets that are listening already, so there is no moment at which it is too early to connect to it.
        let listen = |name: &str| {
            let _ = fs::remove_file(path(name));
            UnixListener::bind(path(name))
        };
        let (report, qmp) = (listen("report.sock")?, listen("qmp.sock")?);

        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", self.machine, "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"]);
        command.args([
            "-m",
            &format!("{}M", self.memory_mib),
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(path("initramfs"));
        // At boot the kernel counts a few ticks of the timer to see whether its interrupts come, and panics when the emulator is given too
        // little time meanwhile.
        let kernel_parameters = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check{}",
            self.kernel_parameters
        );
        command.args(["-append", &kernel_parameters]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        let chardev = |id: &str, backend: String| ["-chardev".to_owned(), format!("{backend},id={id}")];
        command.args(chardev("console", format!("file,path={}", path("console").display())));
        command.args(chardev("report", format!("socket,path={}", path("report.sock").display())));
        command.args(chardev("qmp", format!("socket,path={}", path("qmp.sock").display())));
        command.args(["-serial", "chardev:console", "-serial", "chardev:report"]);
        command.args(["-mon", "chardev=qmp,mode=control"]);
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(path("qemu.log"))?);

        let started = Instant::now();
        let deadline = started + self.deadline;
        let mut child = Killed(command.spawn().map_err(|error| {
            VmError::Failed(format!("qemu-system-x86_64: {error}; run tests/lab/setup.sh as root"))
        })?);
        let mut connect = || -> io::Result<(UnixStream, Qmp)> {
            let report = accept(&report, &mut child, deadline)?;
            Ok((report, Qmp::negotiate(accept(&qmp, &mut child, deadline)?)?))
        };
        let (report, qmp) = connect().map_err(|error| {
            let log = fs::read_to_string(path("qemu.log")).unwrap_or_default();
            VmError::Failed(format!("QEMU did not start: {error}\n{command:?}\n{log}"))
        })?;
        Ok(Vm {
            child,
            qmp,
            report: BufReader::new(report),
            partial_line: Vec::new(),
            lines: Vec::new(),
            passed: false,
            directory: self.directory.path().to_owned(),
            started,
            deadline,
        })
    }
}

/// A running machine.
#[derive(Debug)]
pub struct Vm {
    child: Killed,
    qmp: Qmp,
    report: BufReader<UnixStream>,
    partial_line: Vec<u8>,
    lines: Vec<String>,
    /// The guest has passed, and stays until the host's side is done too: with it the monitor would go.
    passed: bool,
    directory: PathBuf,
    started: Instant,
    deadline: Instant,
}

impl Vm {
    /// The machine's monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// When the run is given up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits until the guest reports a line that begins with `marker`, and returns the line.
    pub fn wait_for(&mut self, marker: &str) -> Result<String, VmError> {
        while let Some(line) = self.next_line(&format!("{marker:?}"))? {
            if line.starts_with(marker) {
                return Ok(line);
            }
        }
        let end = if self.passed { "passed".to_owned() } else { self.describe_exit() };
        Err(VmError::Failed(format!("the guest ended ({end}) without reporting {marker:?}")))
    }

    fn wait_for_verdict(&mut self) -> Result<(), VmError> {
        while self.next_line("its verdict")?.is_some() {}
        if self.passed {
            self.report.get_mut().write_all(b"leave\n")?;
        }
        let status = self.child.0.wait()?;
        match status.code() {
            Some(PASSED) => Ok(()),
            Some(FAILED) => Err(VmError::Failed("the guest's verdict is: failed".to_owned())),
            _ => {
                Err(VmError::Failed(format!("the guest ended without a verdict ({})", self.describe_exit())))
            }
        }
    }

    fn next_line(&mut self, awaited: &str) -> Result<Option<String>, VmError> {
        match read_line(&mut self.report, &mut self.partial_line, self.deadline) {
            Ok(Some(line)) if line == LAST_LINE => {
                self.passed = true;
                Ok(None)
            }
            Ok(line) => {
                self.lines.extend(line.clone());
                Ok(line)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(VmError::Failed(format!("the deadline passed waiting for {awaited}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The status of a machine that has ended or is about to: its sockets end a moment before the process is gone.
    fn exit_status_soon(&mut self) -> Option<ExitStatus> {
        let patience = Instant::now() + A_MOMENT;
        loop {
            let status = self.child.0.try_wait().ok().flatten();
            if status.is_some() || Instant::now() > patience {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the lines that nobody has waited for.
    fn read_what_is_left(&mut self) {
        self.deadline = Instant::now() + A_MOMENT;
        while let Ok(Some(_)) = self.next_line("what is left") {}
    }

    fn describe_exit(&mut self) -> String {
        let log = fs::read_to_string(self.directory.join("qemu.log")).unwrap_or_default();
        // The report's end of file comes a moment before the process is gone.
        let status = self.child.0.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        format!("{status}; QEMU says: {}", log.trim())
    }

    fn console_tail(&self) -> String {
        let console = fs::read(self.directory.join("console")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console).replace('\r', "");
        let lines: Vec<_> = console.lines().collect();
        lines[lines.len().saturating_sub(CONSOLE_TAIL_LINES)..].join("\n")
    }
}

/// A child process that does not outlive its owner.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) Child);

impl Killed {
    /// Kills it, and waits until it is gone.
    pub(crate) fn end(&mut self) {
        // Both fail when it has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.end();
    }
}

/// Accepts the connection that `child` makes, unless it exits or the deadline passes first.
fn accept(listener: &UnixListener, child: &mut Killed, deadline: Instant) -> io::Result<UnixStream> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if let Some(status) = child.0.try_wait()? {
            return Err(io::Error::other(status.to_string()));
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
