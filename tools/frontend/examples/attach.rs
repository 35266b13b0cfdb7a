//! Front-ends that connect and then do nothing: what attached, idle channels cost is measured with them.
//!
//! ```sh
//! cargo run -p vfiomux-frontend --example attach -- SOCKET...
//! ```
//!
//! Says `attached` when all are, and hangs up when its standard input ends.

use std::io::Read;
use std::path::PathBuf;

use vfiomux_frontend::{FrontendError, Session, Shape};

fn main() -> Result<(), FrontendError> {
    let shape = Shape { queues: 1, requests: 16, request_bytes: 4096 };
    let sockets = std::env::args_os().skip(1).map(PathBuf::from);
    let sessions: Vec<Session> =
        sockets.map(|socket| Session::connect(&socket, &shape)).collect::<Result<_, _>>()?;
    println!("attached {}", sessions.len());
    // Its end is all that is waited for, and an error is as good an end as any.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}
