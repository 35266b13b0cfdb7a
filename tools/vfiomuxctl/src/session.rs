//! One conversation with the daemon, and what is printed of it.

use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;
use vfiomux_rpc::vmm_arguments::{Attachment, Vmm, shell_lines};
use vfiomux_rpc::{Call, Change, Client, ClientError, JobInfo, call};

use crate::arguments::{ChangeArguments, LongChange};
use crate::failure::Failure;
use crate::job;
use crate::table::Paint;

#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    json: bool,
}

impl Session {
    /// Connects, as nobody more than a tenant when one is given.
    pub(crate) fn connect(control: &Path, json: bool, tenant: Option<&str>) -> Result<Self, Failure> {
        let mut client = Client::connect(control)?;
        if let Some(tenant) = tenant {
            client.call(&call::CallerConfine { tenant: tenant.to_owned() })?;
        }
        Ok(Self { client, json })
    }

    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    pub(crate) fn call<C: Call>(&mut self, call: &C) -> Result<C::Output, Failure> {
        Ok(self.client.call(call)?)
    }

    /// Has something changed, and gives the answer as it came.
    pub(crate) fn call_value<C: Call>(&mut self, call: &C, change: &Change) -> Result<Value, ClientError> {
        self.client.call_value(call, change)
    }

    /// Asks, and shows the answer by `view`.
    pub(crate) fn show<C: Call>(
        &mut self,
        call: &C,
        view: impl FnOnce(&C::Output, Paint) -> String,
    ) -> Result<(), Failure> {
        self.run(call, &Change::default(), view)
    }

    /// Has something changed, and tells by `view` in one phrase what was.
    pub(crate) fn change<C: Call>(
        &mut self,
        call: &C,
        change: &ChangeArguments,
        view: impl FnOnce(&C::Output) -> String,
    ) -> Result<(), Failure> {
        let change = change.to_change();
        let prefix = if change.dry_run { "dry run, nothing changed: " } else { "" };
        self.run(call, &change, |output, _| format!("{prefix}{}\n", view(output)))
    }

    /// As [`Self::change`], for what can take long: in the background, when that is wanted.
    pub(crate) fn change_long<C: Call>(
        &mut self,
        call: &C,
        change: &LongChange,
        view: impl FnOnce(&C::Output) -> String,
    ) -> Result<(), Failure> {
        let asked = change.to_change();
        if !asked.background || asked.dry_run {
            return self.change(call, &change.change, view);
        }
        let begun = self.client.call_value(call, &asked)?;
        if self.json {
            return print(&format!("{begun:#}\n"));
        }
        let begun: JobInfo =
            serde_json::from_value(begun).map_err(|error| ClientError::Protocol(error.to_string()))?;
        print(&format!("{}\n", job::begun(&begun)))
    }

    /// Shows how a VMM is made to use a channel.
    pub(crate) fn attachment(&mut self, call: &call::ChannelShow, vmm: Vmm) -> Result<(), Failure> {
        let attachment = vmm.attachment(&self.call(call)?)?;
        let text = match (attachment, self.json) {
            (Attachment::Arguments(arguments), true) => format!("{:#}\n", Value::from(arguments)),
            (Attachment::Configuration(text), true) => format!("{:#}\n", Value::from(text)),
            (Attachment::Arguments(arguments), false) => shell_lines(&arguments),
            (Attachment::Configuration(text), false) => text,
        };
        print(&text)
    }

    fn run<C: Call>(
        &mut self,
        call: &C,
        change: &Change,
        view: impl FnOnce(&C::Output, Paint) -> String,
    ) -> Result<(), Failure> {
        let value = self.client.call_value(call, change)?;
        if self.json {
            return print(&format!("{value:#}\n"));
        }
        let output =
            serde_json::from_value(value).map_err(|error| ClientError::Protocol(error.to_string()))?;
        print(&view(&output, Paint::for_stdout()))
    }
}

/// Writes to standard output, at once.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}
