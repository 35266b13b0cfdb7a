//! The kernel modules that a guest loads, in the order in which `insmod` takes them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The modules of an unpacked, never installed kernel package. No depmod has run over it, so each module's own word is taken for
/// what it depends on.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    /// By normalised name: in a module's name the kernel takes `-` and `_` for the same.
    paths: HashMap<String, PathBuf>,
    built_in: Vec<String>,
}

impl ModuleTree {
    pub(crate) fn read(root: &Path) -> io::Result<ModuleTree> {
        let mut paths = HashMap::new();
        let mut unread = vec![root.to_owned()];
        while let Some(directory) = unread.pop() {
            for entry in fs::read_dir(&directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    unread.push(path);
                } else if path.extension().is_some_and(|extension| extension == "ko") {
                    paths.insert(name_of(&path), path);
                }
            }
        }
        let built_in = fs::read_to_string(root.join("modules.builtin"))?;
        Ok(ModuleTree { paths, built_in: built_in.lines().map(|line| name_of(Path::new(line))).collect() })
    }

    /// Appends the module and all that it depends on to `ordered`, dependencies first, each once. What is built into the kernel
    /// needs no loading.
    pub(crate) fn append_with_dependencies(
        &self,
        module: &str,
        ordered: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let name = module.replace('-', "_");
        let Some(path) = self.paths.get(&name) else {
            if self.built_in.contains(&name) {
                return Ok(());
            }
            return Err(io::Error::other(format!("the guests' kernel has no module {module}")));
        };
        if ordered.contains(path) {
            return Ok(());
        }
        for dependency in dependencies(&fs::read(path)?) {
            self.append_with_dependencies(&dependency, ordered)?;
        }
        ordered.push(path.clone());
        Ok(())
    }
}

fn name_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

/// The `depends=` entry of a module's `.modinfo` section: names separated by commas, ended by NUL.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let value = module[start + KEY.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_its_dependencies_and_once() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, depends: &str| {
            let content = format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(root.path().join(format!("{name}.ko")), content)
                .expect("a file in a temporary directory");
        };
        write("vfio", "");
        write("vfio-pci-core", "vfio,irqbypass");
        write("vfio-pci", "vfio-pci-core,vfio");
        fs::write(root.path().join("modules.builtin"), "kernel/virt/lib/irqbypass.ko\n").expect("a file");

        let tree = ModuleTree::read(root.path()).expect("a readable tree");
        let mut ordered = Vec::new();
        tree.append_with_dependencies("vfio_pci", &mut ordered).expect("every dependency is there");
        tree.append_with_dependencies("vfio", &mut ordered).expect("loaded already");
        let names: Vec<_> = ordered.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["vfio", "vfio_pci_core", "vfio_pci"]);
        assert!(tree.append_with_dependencies("absent", &mut ordered).is_err());
    }
}
