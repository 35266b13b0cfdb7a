//! `apply`: channels and tenants' limits as a file says they are to be.
//!
//! The file says what is wanted, the daemon what is; a plan is what lies between, one request a step. The plan is made before anything
//! is asked for, by a function of the two ([`plan`]), so what cannot be done is known while nothing has been. Each step expects
//! the generation that the plan was made for, or that the step before it left: whoever changes the same channel meanwhile is
//! noticed, and what is left of the plan is not begun.
//!
//! ```text
//!   FILE ─► desired ──┐
//!                     ├─► plan ─► steps ─► run ─► vfiomuxd ─► report
//!   channel.list ─────┘
//! ```
//!
//! What the file does not name is left alone, unless it is to be pruned. What a channel's table does not say is not had: no limit, no
//! label, no endpoint.

mod channel;
mod desired;
mod plan;
mod report;
mod run;
mod step;
#[cfg(test)]
mod tests;
mod words;

use std::io;
use std::path::PathBuf;

use clap::Args;
use vfiomux_rpc::{ClientError, TenantInfo, call};

use self::desired::Desired;
use self::plan::{Obstacle, Options, Plan};
use self::report::Report;
use crate::failure::Failure;
use crate::session::Session;

/// What to bring about, and how far that may go.
#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// What is wanted: TOML, a table [channel.NAME] a channel, and [tenant.NAME] for limits of a tenant
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Say what would happen, ask the daemon whether it would do it, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Destroy the channels that the file does not name
    #[arg(long)]
    prune: bool,
    /// Make channels smaller where the file says so: what lies beyond the new size is lost
    #[arg(long)]
    shrink: bool,
}

/// Why nothing was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not say what is wanted, as the parser tells it.
    #[error("{}: {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        what: String,
    },
    /// What it wants cannot be had, each with its reason.
    #[error("nothing was begun:{}", .0.iter().map(|obstacle| format!("\n  {obstacle}")).collect::<String>())]
    Obstacles(Vec<Obstacle>),
}

impl ApplyError {
    /// Whether the file is at fault, whatever the daemon has.
    pub(crate) const fn is_usage(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Parse { .. })
    }
}

/// Reads the file, before anybody is asked; plans; does what is planned; and looks whether it came to what was wanted.
pub(crate) fn run(
    connect: impl FnOnce() -> Result<Session, Failure>,
    wanted: &ApplyArguments,
) -> Result<(), Failure> {
    let desired = Desired::read(&wanted.file)?;
    let mut session = connect()?;
    let options = Options { prune: wanted.prune, shrink: wanted.shrink };
    let plan = plan_now(&mut session, &desired, options)?;
    let mut report = Report::new(&plan, wanted.dry_run, session.json());
    let failed = run::run(&mut session, &plan, &mut report);
    if failed.is_none() && !wanted.dry_run && !plan.steps.is_empty() {
        // Policies amend what they are asked about, and others have their hands on the channels too. An obstacle here is one that
        // came meanwhile, and is told the next time.
        if let Ok(rest) = plan_now(&mut session, &desired, options) {
            report.remaining(&rest);
        }
    }
    let told = report.end();
    // Why a step failed is worth more than that nobody read it.
    failed.map_or(told, Err)
}

fn plan_now(session: &mut Session, desired: &Desired, options: Options) -> Result<Plan, Failure> {
    let channels = session.call(&call::ChannelList { tenant: None })?;
    let tenants: Vec<TenantInfo> =
        if desired.tenants.is_empty() { Vec::new() } else { session.call(&call::TenantList {})? };
    Ok(plan::plan(desired, &channels, &tenants, options).map_err(ApplyError::Obstacles)?)
}

/// What came is not what this build understands.
fn not_understood(error: impl std::fmt::Display) -> Failure {
    ClientError::Protocol(error.to_string()).into()
}
