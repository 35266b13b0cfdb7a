//! What a daemon has recorded, for the manager's monitor, which knows the table that it runs by (L1).

use std::path::Path;
use std::time::Duration;

use vfiomux_rpc::{Client, ClientError, Event, call};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// All events that the daemon behind a control socket has recorded and still keeps.
///
/// # Errors
///
/// When it does not answer.
pub fn recorded(control: &Path) -> Result<Vec<Event>, ClientError> {
    let mut client = Client::connect(control)?;
    client.set_timeout(Some(PATIENCE))?;
    let (mut events, mut since) = (Vec::new(), None);
    loop {
        let mut list = client.call(&call::EventsList { since, limit: None })?;
        if list.events.is_empty() {
            return Ok(events);
        }
        if list.gap.is_some() {
            // It went on faster than it was read.
            events.clear();
        }
        since = Some(list.last_seq);
        events.append(&mut list.events);
    }
}
