//! The sidecores as an operator sees and sets them.

use vfiomux_rpc::{
    Bucket, Caller, Change, ErrorCode, EventKind, Lane, ObjectKind, Outcome, RpcError, SidecoreChannel,
    SidecoreInfo, SidecoreMode, SidecoreRest, Ticket, call,
};
use vfiomux_sidecore::{Mode, Order, SidecoreError, SidecoreThread, ThreadSettings};

use super::Control;
use super::channel::Channel;
use super::lines::Line;
use super::view::distribution;
use crate::config::Config;
use crate::event::event;

/// Starts the threads that are configured.
pub(crate) fn start(config: &Config) -> Result<Vec<Line>, SidecoreError> {
    let threads = config.sidecores.threads().into_iter().enumerate();
    threads
        .map(|(index, (cpu, mode))| {
            let name = format!("sidecore-{index}");
            let settings = ThreadSettings {
                name,
                cpu,
                mode: thread_mode(mode, config.sidecores.spin_us),
                ..ThreadSettings::default()
            };
            Ok(Line::new(SidecoreThread::spawn(settings)?, cpu, mode))
        })
        .collect()
}

fn thread_mode(mode: SidecoreMode, spin_us: u32) -> Mode {
    match mode {
        SidecoreMode::Poll => Mode::Poll,
        SidecoreMode::Adaptive => Mode::Adaptive { spin_ns: u64::from(spin_us) * 1000 },
        SidecoreMode::Event => Mode::Event,
    }
}

impl Control {
    pub(crate) fn sidecore_list(&self) -> Vec<SidecoreInfo> {
        let lines = self.lines.iter().enumerate();
        lines.map(|(index, line)| self.info(index, line, self.served_by(index))).collect()
    }

    /// The channels on a sidecore, and what each is of its load.
    fn served_by(&self, line: usize) -> Vec<SidecoreChannel> {
        let here = |channel: &Channel| {
            let seat = channel.seat.as_ref().filter(|seat| seat.line == line)?;
            let lane = if seat.own_lane { Lane::Own } else { Lane::Shared };
            Some(SidecoreChannel {
                name: channel.setting.name.clone(),
                tenant: channel.setting.tenant.clone(),
                load_permille: channel.load_permille,
                lane,
            })
        };
        let mut all: Vec<SidecoreChannel> = self.channels.values().filter_map(here).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub(crate) fn sidecore_show(&self, index: u32) -> Result<SidecoreInfo, RpcError> {
        self.sidecore_list()
            .into_iter()
            .find(|info| info.index == index)
            .ok_or_else(|| self.no_sidecore(index))
    }

    /// Gives a sidecore another mode, until the daemon ends.
    pub(crate) fn sidecore_set(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: &Change,
        wanted: &call::SidecoreSet,
    ) {
        let index = wanted.index as usize;
        let no_such = self.no_sidecore(wanted.index);
        let spin_us = self.config.sidecores.spin_us;
        let Some(line) = self.lines.get_mut(index) else { return self.rpc.reply(ticket, Err(no_such)) };
        if change.expected_generation.is_some() {
            let error = RpcError::new(ErrorCode::InvalidArgument, "a sidecore has no generation")
                .about(format!("sidecore {index}"))
                .next("leave expected_generation out");
            return self.rpc.reply(ticket, Err(error));
        }
        let (mode, before) = (wanted.mode, line.mode);
        if change.dry_run || mode == before {
            let answer = self.sidecore_show(wanted.index).map(|mut info| {
                info.mode = mode;
                Outcome::from(info)
            });
            return self.rpc.reply(ticket, answer);
        }
        line.mode = mode;
        let order = Order::SetMode { mode: thread_mode(mode, spin_us) };
        let shown = wanted.index;
        line.send(
            order,
            Box::new(move |control, _| {
                let answer = control.sidecore_show(shown).map(Outcome::from);
                control.rpc.reply(ticket, answer);
            }),
        );
        let mut told = event(EventKind::Setting, ObjectKind::Sidecore, index.to_string());
        (told.from, told.to) = (Some(before.name().to_owned()), Some(mode.name().to_owned()));
        told.uid = Some(caller.uid);
        self.tell(told);
    }

    fn info(&self, index: usize, line: &Line, serves: Vec<SidecoreChannel>) -> SidecoreInfo {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let counters = line.handle.counters();
        SidecoreInfo {
            index: count(index),
            cpu: line.cpu,
            mode: line.mode,
            busy_permille: line.busy_permille,
            channels: count(serves.len()),
            breath_time: counters
                .breath_time
                .snapshot()
                .buckets()
                .map(|(up_to_ns, count)| Bucket { up_to_ns, count })
                .collect(),
            rest: SidecoreRest {
                asleep: line.handle.is_asleep(),
                spin_max_us: self.config.sidecores.spin_us,
                sleep_cost_ns: counters.sleep_cost_ns.get(),
                busy_ns: counters.busy_ns.get(),
                spun_ns: counters.spun_ns.get(),
                asleep_ns: counters.asleep_ns.get(),
                naps: counters.naps.get(),
                short_naps: counters.short_naps.get(),
                woken_by_kicks: counters.woken_by_kicks.get(),
                woken_by_devices: counters.woken_by_devices.get(),
                woken_by_orders: counters.woken_by_orders.get(),
                wake_to_submit: distribution(&counters.wake_to_submit.snapshot()),
            },
            serves,
        }
    }

    fn no_sidecore(&self, index: u32) -> RpcError {
        let last = self.lines.len().saturating_sub(1);
        RpcError::new(ErrorCode::NotFound, format!("there is no sidecore {index}"))
            .about(format!("sidecore {index}"))
            .next(format!("they are numbered from 0 to {last}; see vfiomuxctl sidecore list"))
    }
}
