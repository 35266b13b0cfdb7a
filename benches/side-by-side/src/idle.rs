//! What a server uses while sessions are attached that do nothing.

use std::thread;
use std::time::Duration;

use serde::Serialize;
use vfiomux_bench_daemon::chain;
use vfiomux_frontend::{Session, Shape};

use crate::measurement::cores_used;
use crate::server::Server;

/// From the last session's start until a server has come to rest.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);
const SHAPE: Shape = Shape { queues: 1, requests: 1, request_bytes: 4096 };

/// What one look at a resting server showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Idle {
    pub(crate) contender: String,
    pub(crate) sessions: usize,
    /// Of one core, what the server's threads used in each round.
    pub(crate) server_cores: Vec<f64>,
}

/// Attaches a session to each socket, and looks, round after round.
pub(crate) fn measure(
    server: &Server,
    contender: &str,
    rounds: u32,
    duration: Duration,
) -> Result<Idle, String> {
    let sessions: Vec<Session> = server
        .sockets
        .iter()
        .map(|socket| Session::connect(socket, &SHAPE).map_err(|error| chain(&error)))
        .collect::<Result<_, _>>()?;
    thread::sleep(SETTLES_WITHIN);
    let server_cores: Option<Vec<f64>> = (0..rounds).map(|_| cores_used(server.pid(), duration)).collect();
    let idle = Idle {
        contender: contender.to_owned(),
        sessions: sessions.len(),
        server_cores: server_cores.ok_or("the server is gone")?,
    };
    for session in sessions {
        session.stop().map_err(|error| chain(&error))?;
    }
    Ok(idle)
}
