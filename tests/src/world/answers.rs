//! What control hears from the sidecore, and what follows from it.

use std::sync::Arc;

use vfiomux_block::{LaneId, Status};
use vfiomux_guest::MemoryMap;
use vfiomux_hw::Quiesced;
use vfiomux_nvme::Queue;
use vfiomux_sidecore::{Answer, Order, Refusal, Report};

use super::channel::Channel;
use super::front::Front;
use super::host::{News, Purpose, What, unmap, unused};
use super::{Sabotage, World};

impl World {
    /// Takes what the sidecore reports.
    pub(super) fn receive(&mut self) -> Result<(), String> {
        while let Some(news) = self.host().receive() {
            match news {
                News::Answer(Purpose::Channel(at, what), answer) => {
                    self.channels[at].awaited -= 1;
                    if !matches!(answer, Answer::Refused { .. }) {
                        self.channels[at].progress = self.trace.step;
                    }
                    self.answered(at, what, answer)?;
                }
                News::Answer(Purpose::LaneGone(old), answer) => self.lane_gone(old, answer)?,
                News::Answer(Purpose::Lane { old }, answer) => self.lane_attached(old, answer)?,
                News::Answer(Purpose::Device, answer) => self.device_removed(answer)?,
                News::Answer(Purpose::Aside, _) => {}
                News::Report(Report::Quarantined { channel, fault }) => {
                    self.trace.note(format!("channel {} is quarantined: {fault}", channel.index));
                    let known = self.channels.iter_mut().find(|known| known.id == channel && known.hostile);
                    let known =
                        known.ok_or_else(|| format!("ISO2: {channel:?} did nothing wrong: {fault}"))?;
                    known.quarantined = true;
                    self.summary.quarantines += 1;
                }
                News::Report(Report::DeviceGone { .. }) if self.calamities.disturbed => {}
                News::Report(other) => return Err(format!("an unexpected report: {other:?}")),
            }
        }
        Ok(())
    }

    fn answered(&mut self, at: usize, what: What, answer: Answer<Queue>) -> Result<(), String> {
        match (what, answer) {
            (What::Add | What::Start(_) | What::Resume, Answer::Done) => {}
            (What::Suspend, Answer::Done) => {
                self.channels[at].suspended = true;
                self.summary.suspends += 1;
            }
            (What::Memory, Answer::MemoryReplaced { old }) => {
                let channel = &mut self.channels[at];
                let asked = channel.asked.take();
                channel.lent = asked.flatten();
                channel.sticks = channel.lent.unwrap_or(channel.sticks);
                channel.leaving = None;
                channel.map = std::mem::take(&mut channel.next_map);
                if let Some(old) = old {
                    self.unmap(old)?;
                }
            }
            (What::Stop(_), Answer::RingStopped { ring }) => self.stopped(at, ring.index, ring.base)?,
            (What::Resize, Answer::Resized { .. }) => {
                let channel = &mut self.channels[at];
                let cells = std::mem::take(&mut channel.resizing);
                let gone: Vec<usize> =
                    channel.cells.iter().copied().filter(|cell| !cells.contains(cell)).collect();
                channel.cells = cells;
                channel.coming.clear();
                channel.blocks = channel.cells.len() * self.disk.cell_blocks() as usize;
                channel.oracle.resize(channel.blocks);
                channel.fronts.iter_mut().for_each(Front::tolerate_failures);
                self.disk.give_back(&gone)?;
                self.summary.resizes += 1;
            }
            (What::Remove, Answer::ChannelRemoved { channel, memory, rings }) => {
                drop(channel);
                let quarantined = self.channels[at].quarantined;
                self.gone(at);
                if let Some(memory) = memory {
                    self.unmap(memory)?;
                }
                if self.channels[at].map.strong_count() > 0 {
                    return Err(format!("T1: channel {at} was removed, and its memory map is still held"));
                }
                for ring in rings.iter().filter(|_| !quarantined) {
                    self.stopped(at, ring.index, ring.base)?;
                }
            }
            (What::Scrub, Answer::Served { status, .. }) => {
                if status == Status::Success {
                    self.channels[at].scrubs.pop_front();
                    self.channels[at].escalation = 0;
                } else if !self.calamities.disturbed
                    && !matches!(status, Status::Aborted | Status::QueueDeleted)
                {
                    return Err(format!("a scrub ended with {status:?}"));
                }
            }
            (What::ListInFlight, Answer::InFlight { ids }) => self.abort(&ids),
            (what, Answer::Refused { why, order }) => self.refused(at, what, why, *order)?,
            (what, answer) => return Err(format!("channel {at}: {what:?} was answered by {answer:?}")),
        }
        Ok(())
    }

    /// Memory has come back: out of the device's reach with it (D3).
    fn unmap(&mut self, memory: Quiesced<Arc<MemoryMap>>) -> Result<(), String> {
        if self.sabotage == Some(Sabotage::LeakGrants) {
            return Ok(());
        }
        unmap(memory)
    }

    /// A ring was given back: all that was taken from it has been returned (I2).
    fn stopped(&mut self, at: usize, ring: u16, base: u16) -> Result<(), String> {
        self.reap_channel(at, true)?;
        let channel = &mut self.channels[at];
        let Some(front) = channel.fronts.get_mut(usize::from(ring)) else { return Ok(()) };
        if base != front.returned() && !channel.hostile && self.sabotage.is_none() {
            let returned = front.returned();
            return Err(format!(
                "I2: ring {ring} of channel {at} stopped at {base}, with {returned} returned"
            ));
        }
        front.base = base;
        Ok(())
    }

    /// The sidecore does not have the channel any more.
    pub(super) fn gone(&mut self, at: usize) {
        let channel = &mut self.channels[at];
        channel.present = false;
        channel.started = false;
        channel.suspended = false;
        channel.lent = None;
        channel.asked = None;
    }

    fn refused(&mut self, at: usize, what: What, why: Refusal, order: Order<Queue>) -> Result<(), String> {
        if what != What::Scrub {
            self.trace.note(format!("channel {at}: {what:?} refused: {why}"));
        }
        // What an order carried is still ours to give back.
        if let Order::SetMemory { map, .. } = order {
            self.channels[at].asked = None;
            self.unmap(unused(map))?;
        }
        let channel = &self.channels[at];
        let expected = match (what, why) {
            // The lane is full, or was just taken away.
            (What::Scrub, Refusal::NotTaken | Refusal::NoLane) => true,
            (What::ListInFlight, Refusal::NoChannel) => true,
            _ => self.reset.is_some() || channel.hostile,
        };
        if expected { Ok(()) } else { Err(format!("channel {at}: {what:?} was refused: {why}")) }
    }

    /// A lane that was deleted was taken from the sidecore.
    fn lane_gone(&mut self, old: LaneId, answer: Answer<Queue>) -> Result<(), String> {
        drop(answer);
        if self.reset.is_some() {
            return Ok(());
        }
        match self.host().make_lane(old) {
            Err(why) if self.calamities.disturbed => self.begin_reset(&why),
            made => made,
        }
    }

    /// A lane has taken the place of another: its channels go on there.
    fn lane_attached(&mut self, old: LaneId, answer: Answer<Queue>) -> Result<(), String> {
        let Answer::LaneAttached { lane } = answer else {
            return if self.reset.is_some() { Ok(()) } else { Err(format!("no lane in place of {old:?}")) };
        };
        self.calamities.swaps -= 1;
        if self.reset.is_some() {
            return Ok(());
        }
        let movers: Vec<usize> =
            (0..self.channels.len()).filter(|&at| self.channels[at].lane == old).collect();
        for at in movers {
            let channel: &mut Channel = &mut self.channels[at];
            channel.lane = lane;
            let (id, present) = (channel.id, channel.present);
            if present {
                self.host().send(Order::SetLane { channel: id, lane }, Purpose::Aside);
            }
        }
        Ok(())
    }
}
