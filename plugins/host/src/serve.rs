//! Questions and answers, one by one, until the daemon closes the socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use vfiomux_policy::wire::{
    ANSWER_BYTES_MAX, Asked, Call, Decoder, QUESTION_BYTES_MAX, Reply, Told, VERSION, WireError, encode,
};

use crate::library::{Library, LibraryError};
use crate::plugin::Plugin;
use crate::sink;

/// Why a host ends before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServeError {
    #[error("the daemon cannot be understood")]
    Wire(#[from] WireError),
    #[error("the socket fails")]
    Socket(#[from] io::Error),
    #[error("the first question was not to begin")]
    NotBegun,
}

/// Serves a library that was loaded, or that could not be.
pub(crate) fn serve(
    mut socket: UnixStream,
    loaded: Result<Library, LibraryError>,
    sandbox: Vec<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut decoder = Decoder::new(QUESTION_BYTES_MAX);
    let Some((Asked { id, call }, _)) = next(&mut socket, &mut decoder)? else { return Ok(()) };
    let mut plugin = match begin(&call, loaded) {
        Ok(plugin) => plugin,
        Err(reply) => {
            tell(&mut socket, id, reply, &[])?;
            // The daemon has been told why. It closes the socket.
            return Ok(next(&mut socket, &mut decoder).map(drop)?);
        }
    };
    tell(&mut socket, id, Reply::Ready(plugin.about(sandbox)), &[])?;
    while let Some((Asked { id, call }, attachment)) = next(&mut socket, &mut decoder)? {
        let (reply, attachment) = plugin.answer(&call, &attachment);
        tell(&mut socket, id, reply, &attachment)?;
    }
    plugin.end();
    Ok(())
}

fn begin(call: &Call, loaded: Result<Library, LibraryError>) -> Result<Plugin, Reply> {
    let Call::Init { version, name, configuration } = call else {
        return Err(Reply::Refused { why: ServeError::NotBegun.to_string() });
    };
    if *version != VERSION {
        let why = format!(
            "the daemon speaks version {version} and vfiomux-plugin-host {VERSION}; install both from one build"
        );
        return Err(Reply::Refused { why });
    }
    let library = loaded.map_err(|error| Reply::Refused { why: error.to_string() })?;
    Plugin::begin(&library, name, configuration)
}

/// The next question; none when the daemon has closed the socket.
fn next(socket: &mut UnixStream, decoder: &mut Decoder) -> Result<Option<(Asked, Vec<u8>)>, ServeError> {
    let mut bytes = [0; 16 << 10];
    loop {
        if let Some(message) = decoder.message()? {
            return Ok(Some(message));
        }
        match socket.read(&mut bytes) {
            Ok(0) => return Ok(None),
            Ok(count) => decoder.feed(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell(socket: &mut UnixStream, id: u64, reply: Reply, attachment: &[u8]) -> Result<(), ServeError> {
    let log = sink::take_log();
    let told = Told { id, reply, log: log.lines, log_dropped: log.dropped };
    let bytes = encode(&told, attachment, ANSWER_BYTES_MAX)?;
    Ok(socket.write_all(&bytes)?)
}
