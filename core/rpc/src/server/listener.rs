//! The listening socket: who may connect to it, and what becomes of a socket file that is already there.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};

/// Why the control socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// A daemon serves it already.
    #[error("a daemon already listens at {}; stop it, or give --control another path", path.display())]
    Live {
        /// The control socket.
        path: PathBuf,
    },
    /// Something that is no socket is there.
    #[error("{} exists and is no socket; move it away, or give --control another path", path.display())]
    Occupied {
        /// The control socket.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot listen at {}: {source}; the directory must exist and be writable, and the path short", path.display())]
    Io {
        /// The control socket.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file, to know it again.
    file: (u64, u64),
}

impl Listener {
    pub(super) fn bind(path: &Path) -> Result<Self, BindError> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::Occupied { path: path.to_owned() });
            }
            Ok(_) if StdStream::connect(path).is_ok() => {
                return Err(BindError::Live { path: path.to_owned() });
            }
            _ => {}
        }
        let (socket, file) =
            listen(path).map_err(|source| BindError::Io { path: path.to_owned(), source })?;
        Ok(Self { socket, path: path.to_owned(), file })
    }

    pub(super) fn source(&mut self) -> &mut UnixListener {
        &mut self.socket
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next client; none when nobody waits.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Makes the socket under another name and moves it into place, so that nobody finds it with another mode, and so that what
/// nobody listens at any more is replaced in one step.
fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    if let Err(error) = fs::remove_file(&unfinished)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let socket = StdListener::bind(&unfinished)?;
    socket.set_nonblocking(true)?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o660))?;
    let file = fs::symlink_metadata(&unfinished)?;
    fs::rename(&unfinished, path)?;
    Ok((UnixListener::from_std(socket), (file.dev(), file.ino())))
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another daemon may have replaced it since; then it is not ours to remove.
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
