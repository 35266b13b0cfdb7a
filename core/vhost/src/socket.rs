//! The sockets under sessions: non-blocking, descriptors close-on-exec, no data moved.

mod backend_channel;
mod connection;
mod connector;
mod listener;

pub use backend_channel::BackendChannel;
pub use connection::{Connection, Progress};
pub use connector::Connector;
pub use listener::Listener;

/// Lets a type be registered with `mio` by the descriptor in its field `socket`.
macro_rules! impl_source {
    ($type:ty) => {
        impl mio::event::Source for $type {
            fn register(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interests: mio::Interest,
            ) -> std::io::Result<()> {
                mio::unix::SourceFd(&self.socket.as_raw_fd()).register(registry, token, interests)
            }

            fn reregister(
                &mut self,
                registry: &mio::Registry,
                token: mio::Token,
                interests: mio::Interest,
            ) -> std::io::Result<()> {
                mio::unix::SourceFd(&self.socket.as_raw_fd()).reregister(registry, token, interests)
            }

            fn deregister(&mut self, registry: &mio::Registry) -> std::io::Result<()> {
                mio::unix::SourceFd(&self.socket.as_raw_fd()).deregister(registry)
            }
        }

        impl std::os::fd::AsFd for $type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.as_fd()
            }
        }
    };
}
use impl_source;
