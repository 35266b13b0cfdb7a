//! Server mode: an endpoint in the file system that front-ends connect to.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::impl_source;
use crate::{Connection, Error};

/// Connections that may wait to be accepted. A channel has one session; a few may queue up while one replaces another.
const BACKLOG: i32 = 8;

/// A socket that front-ends connect to. Its file is removed when it is dropped, if it is still the same.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file that we made.
    identity: (u64, u64),
}

impl_source!(Listener);

impl Listener {
    /// Listen at `path`, with the permission bits `mode`.
    ///
    /// A socket that a dead process has left there is replaced; one on which somebody listens is not.
    ///
    /// # Errors
    ///
    /// [`Error::EndpointInUse`], [`Error::NotASocket`], [`Error::PathTooLong`], [`Error::Listen`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, Error> {
        let address = address(path)?;
        let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
        clear_the_way(path, &address)?;
        let socket = stream_socket().map_err(|errno| listen(errno.into()))?;
        rustix::net::bind(&socket, &address).map_err(|errno| match errno {
            // Another process was quicker than we.
            Errno::ADDRINUSE => Error::EndpointInUse { path: path.to_owned() },
            other => listen(other.into()),
        })?;
        let metadata = fs::symlink_metadata(path).map_err(listen)?;
        let listener = Self { socket, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
        // Nobody can connect before `listen`, so the file is never open to more than `mode` says.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(listen)?;
        rustix::net::listen(&listener.socket, BACKLOG).map_err(|errno| listen(errno.into()))?;
        Ok(listener)
    }

    /// The connection that waits, if one does. Ask until there is none.
    ///
    /// # Errors
    ///
    /// [`Error::Accept`]; the listener can still be used. A connection that could not be taken, for want of a descriptor,
    /// still waits, but edge-triggered readiness does not tell of it again: ask again later.
    pub fn accept(&self) -> Result<Option<Connection>, Error> {
        loop {
            match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => return Ok(Some(Connection::from(socket))),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(Error::Accept { path: self.path.clone(), source: errno.into() }),
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have put another file there in the meantime, which is not ours to remove.
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if same && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the endpoint; remove it by hand");
        }
    }
}

/// Remove a socket that nobody listens on.
fn clear_the_way(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let listen = |source: io::Error| Error::Listen { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(listen(error)),
    }
    // A datagram socket cannot be connected to a stream socket, so who listens there notices nothing: a connection would
    // look like a front-end that takes the place of the one at work. The kernel says which of the two is the case.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|errno| listen(errno.into()))?;
    match rustix::net::connect(&probe, address) {
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(listen(error)),
            _ => Ok(()),
        },
        Err(Errno::NOENT) => Ok(()),
        // EPROTOTYPE from a stream socket in use, success from a datagram socket, EACCES from one that keeps us out.
        _ => Err(Error::EndpointInUse { path: path.to_owned() }),
    }
}

pub(super) fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

pub(super) fn address(path: &Path) -> Result<SocketAddrUnix, Error> {
    SocketAddrUnix::new(path).map_err(|_| Error::PathTooLong { path: path.to_owned() })
}
