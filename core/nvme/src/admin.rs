//! The admin queue pair: one command at a time, waited for, beside an asynchronous event request that waits for long.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use vfiomux_block::Tag;
use vfiomux_hw::{Bar, DmaBuffer, DmaDomain, HwError, Iova};
use vfiomux_spec::nvme::log::EventResult;
use vfiomux_spec::nvme::{ADMIN_QUEUE_ID, AdminOpcode, Status, SubmissionEntry};
use zerocopy::FromBytes;

use crate::NvmeError;
use crate::clock::{Clock, Deadline};
use crate::registers::Registers;
use crate::rings::{CompletionRing, SubmissionRing};
use crate::slots::Slots;

/// Entries of either ring: one command, one event request, and room for commands that timed out.
pub(crate) const ADMIN_ENTRIES: u16 = 32;

/// How long to pause between looks at the completion queue: at first, and at most, doubling between.
const FIRST_PAUSE: Duration = Duration::from_micros(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Bytes of the page that commands transfer to and from.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The tag of the event request; commands have higher ones.
const EVENT_REQUEST: Tag = Tag(0);

/// The admin queue pair, and a page for what its commands transfer.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    submission: SubmissionRing,
    completion: CompletionRing,
    slots: Slots,
    page: DmaBuffer,
    next_tag: u64,
    events: VecDeque<EventResult>,
    event_request_out: bool,
    strays: u64,
}

/// A completion of an admin command.
#[derive(Debug, Clone, Copy)]
struct Answer {
    tag: Tag,
    /// Dword 0.
    result: u32,
    status: Status,
}

impl AdminQueue {
    pub(crate) fn new(domain: &Arc<DmaDomain>, bar: &Bar, dstrd: u8) -> Result<Self, HwError> {
        let entries = u32::from(ADMIN_ENTRIES);
        Ok(Self {
            submission: SubmissionRing::new(domain, bar, dstrd, ADMIN_QUEUE_ID, entries)?,
            completion: CompletionRing::new(domain, bar, dstrd, ADMIN_QUEUE_ID, entries)?,
            slots: Slots::new(ADMIN_ENTRIES - 1, 0),
            page: domain.allocate(PAGE_BYTES)?,
            next_tag: EVENT_REQUEST.0 + 1,
            events: VecDeque::new(),
            event_request_out: false,
            strays: 0,
        })
    }

    pub(crate) fn submission_iova(&self) -> Iova {
        self.submission.iova()
    }

    pub(crate) fn completion_iova(&self) -> Iova {
        self.completion.iova()
    }

    /// Where commands transfer to and from.
    pub(crate) fn page_iova(&self) -> u64 {
        self.page.iova().raw()
    }

    /// What the last command put at `offset` of the page.
    pub(crate) fn read_page<T: FromBytes>(&self, offset: usize) -> Option<T> {
        let mut bytes = [0; PAGE_BYTES];
        self.page.read(0, &mut bytes);
        T::read_from_prefix(bytes.get(offset..)?).ok().map(|(value, _)| value)
    }

    /// Completions that matched no command.
    pub(crate) fn strays(&self) -> u64 {
        self.strays
    }

    /// Runs a command to its end. The outer error says that the controller does not work any more, the inner one is its answer.
    pub(crate) fn execute(
        &mut self,
        registers: &Registers,
        clock: &dyn Clock,
        step: &'static str,
        command: SubmissionEntry,
        timeout: Duration,
    ) -> Result<Result<u32, Status>, NvmeError> {
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        let timed_out = || NvmeError::Timeout { controller: registers.controller.clone(), step, timeout };
        self.submit(tag, command).ok_or_else(timed_out)?;
        let deadline = Deadline::after(clock, timeout);
        let mut pause = FIRST_PAUSE;
        loop {
            while let Some(answer) = self.take_answer() {
                if answer.tag == tag {
                    let Answer { result, status, .. } = answer;
                    return Ok(if status.is_success() { Ok(result) } else { Err(status) });
                }
            }
            registers.check_running(step)?;
            if deadline.passed(clock) {
                return Err(timed_out());
            }
            clock.pause(pause);
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Asks the controller to speak up, unless it was asked already (NVMe 2.0c 5.2).
    pub(crate) fn request_event(&mut self) {
        if !self.event_request_out {
            self.event_request_out = self
                .submit(EVENT_REQUEST, SubmissionEntry::admin(AdminOpcode::ASYNC_EVENT_REQUEST))
                .is_some();
        }
    }

    /// The next thing that the controller had to say.
    pub(crate) fn take_event(&mut self) -> Option<EventResult> {
        // Answers other than events are those of commands that were given up.
        while self.take_answer().is_some() {}
        self.events.pop_front()
    }

    fn submit(&mut self, tag: Tag, command: SubmissionEntry) -> Option<()> {
        if self.submission.room() == 0 {
            return None;
        }
        let cid = self.slots.take(tag)?;
        self.submission.push(command.with_cid(cid));
        self.submission.ring();
        Some(())
    }

    /// The next completion; those of event requests are put aside.
    fn take_answer(&mut self) -> Option<Answer> {
        loop {
            let tail = self.completion.peek()?;
            // Dword 0 is the low half of the entry's first word.
            let result = (self.completion.result() & u64::from(u32::MAX)) as u32;
            self.completion.advance();
            self.completion.publish();
            let known = if tail.sq_id() == ADMIN_QUEUE_ID { self.slots.end(tail.cid()) } else { None };
            let Some(tag) = known else {
                self.strays += 1;
                continue;
            };
            self.submission.retire(tail.sq_head());
            let status = tail.status_field().status();
            if tag != EVENT_REQUEST {
                return Some(Answer { tag, result, status });
            }
            self.event_request_out = false;
            if status.is_success() {
                self.events.push_back(EventResult::from_bits(result));
            }
        }
    }
}
