//! A guest's whole userland, packed into one uncompressed archive: unpacking a compressed one costs an emulated processor more
//! than reading a larger one.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::lab::Lab;
use crate::modules::ModuleTree;

/// Builder of an initramfs whose `/init` is `tests/lab/guest/init`, which runs one script of `tests/lab/guest`.
#[derive(Debug)]
pub struct Initramfs {
    archive: Archive,
    modules: ModuleTree,
    load_order: Vec<PathBuf>,
    variables: String,
}

impl Initramfs {
    /// A guest that runs `script` and nothing more.
    pub fn new(lab: &Lab, script: &str) -> io::Result<Initramfs> {
        let mut archive = Archive::default();
        for directory in ["dev", "proc", "run", "sys", "tmp", "mnt"] {
            archive.directory(directory);
        }
        archive.file("bin/busybox", 0o755, fs::read(lab.busybox())?);
        archive.file("init", 0o755, fs::read(lab.guest_script("init"))?);
        archive.file("lab/functions.sh", 0o644, fs::read(lab.guest_script("functions.sh"))?);
        archive.file("lab/script.sh", 0o644, fs::read(lab.guest_script(script))?);
        let modules = ModuleTree::read(&lab.modules())?;
        Ok(Initramfs { archive, modules, load_order: Vec::new(), variables: String::new() })
    }

    /// Loads a kernel module, after those that it depends on, before the script runs.
    pub fn module(mut self, name: &str) -> io::Result<Initramfs> {
        self.modules.append_with_dependencies(name, &mut self.load_order)?;
        Ok(self)
    }

    /// Sets a shell variable for the script.
    pub fn variable(mut self, name: &str, value: &str) -> Initramfs {
        self.variables += &format!("{name}='{}'\n", value.replace('\'', r"'\''"));
        self
    }

    /// Puts a program of the host's into the guest's `/host`, without its debugging information, and with the shared libraries
    /// that it is linked to where the loader looks for them.
    pub fn program(mut self, path: &Path) -> io::Result<Initramfs> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.archive.file(&format!("host/{name}"), 0o755, stripped(path)?);
        for library in shared_libraries(path)? {
            let content = fs::read(&library)?;
            self.archive.file(&library.to_string_lossy(), 0o755, content);
        }
        Ok(self)
    }

    /// Writes the archive.
    pub fn write(mut self, path: &Path) -> io::Result<()> {
        let mut order = String::new();
        for (position, module) in self.load_order.iter().enumerate() {
            let guest_path = format!(
                "lab/modules/{position:02}-{}",
                module.file_name().unwrap_or_default().to_string_lossy()
            );
            order += &format!("/{guest_path}\n");
            self.archive.file(&guest_path, 0o644, fs::read(module)?);
        }
        self.archive.file("lab/modules.order", 0o644, order.into_bytes());
        self.archive.file("lab/variables.sh", 0o644, self.variables.into_bytes());

        let mut out = BufWriter::new(fs::File::create(path)?);
        self.archive.write(&mut out)?;
        out.flush()
    }
}

/// A program's bytes without debugging information, which can be most of it. Without binutils the guest gets the whole.
fn stripped(path: &Path) -> io::Result<Vec<u8>> {
    let scratch = tempfile::NamedTempFile::new()?;
    let strip = Command::new("strip").arg("-o").arg(scratch.path()).arg(path).status();
    if strip.is_ok_and(|status| status.success()) { fs::read(scratch.path()) } else { fs::read(path) }
}

/// The loader and the libraries that it would load, as `ldd` resolves them on this machine.
fn shared_libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = Command::new("ldd").arg(program).output()?;
    if !listing.status.success() {
        // `ldd` says so of a static program, which needs none.
        return Ok(Vec::new());
    }
    // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", "/lib64/ld-linux-x86-64.so.2 (0x…)", "linux-vdso.so.1 (0x…)"
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let paths = listing.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
