//! From a function to a working controller, and back.

use std::sync::Arc;
use std::time::Duration;

use vfiomux_hw::Function;
use vfiomux_spec::nvme::identify::{
    CNS_ACTIVE_NAMESPACES, CNS_CONTROLLER, CNS_CONTROLLER_OF_SET, CNS_NAMESPACE, CNS_NAMESPACE_DESCRIPTORS,
    Fna, IDENTIFY_BYTES, IdentifyController, IdentifyControllerNvm, IdentifyNamespace, NamespaceList,
};
use vfiomux_spec::nvme::queue::{COMPLETION_ENTRY_SHIFT, SUBMISSION_ENTRY_SHIFT};
use vfiomux_spec::nvme::register::{CSS_NVM, Cap, Cc, Version, completion_doorbell};
use vfiomux_spec::nvme::{NSID_MAX, SubmissionEntry, feature};

use super::{Abilities, Controller, Info, LostQueue, Options, QueueTable, State};
use crate::NvmeError;
use crate::admin::{ADMIN_ENTRIES, AdminQueue};
use crate::clock::Clock;
use crate::link::{Link, NAMESPACES_MAX};
use crate::namespace::{Allowance, Names, PAGE_BYTES};
use crate::registers::Registers;

/// `CC.CSS`: the NVM command set.
const SELECT_NVM: u8 = 0;
/// `CC.CSS`: all command sets that the controller has.
const SELECT_ALL: u8 = 6;

/// [`IdentifyController::cntrltype`]: not said (before version 1.4), and an I/O controller.
const IO_CONTROLLER: [u8; 2] = [0, 1];

/// The most namespaces that are looked for one by one, where the controller has no list of the active ones.
const SCAN_MAX: u32 = 1024;

/// What a reset took away, to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lost {
    /// Completion queues and their lanes. The old [`crate::Queue`]s and [`crate::Lane`]s are of no more use: abandon what
    /// is in flight on them, drop them, and make new ones.
    pub queues: Vec<LostQueue>,
}

pub(super) fn start(
    mut function: Box<dyn Function>,
    options: Options,
    clock: Box<dyn Clock>,
) -> Result<Controller, NvmeError> {
    function.enable()?;
    let registers = Registers { bar: function.bar(0)?, controller: function.identity().name.clone() };
    let cap = usable_cap(&registers)?;
    let domain = function.domain();
    // Bring-up makes a fresh one in each life; this one only fills the place until then.
    let admin = AdminQueue::new(&domain, &registers.bar, cap.dstrd())?;
    let mut controller = Controller {
        function,
        domain,
        clock,
        link: Arc::new(Link::new()),
        // Whoever had the function before may have left it running.
        state: State::Failed,
        cap,
        admin,
        allowance: Allowance::new(
            cap,
            &IdentifyController::default(),
            None,
            options.transfer_bytes_max,
            options.sgl,
        ),
        registers,
        options,
        info: Info::default(),
        abilities: Abilities::default(),
        namespaces: Vec::new(),
        skipped: Vec::new(),
        vectors: Vec::new(),
        queues: QueueTable::default(),
    };
    controller.halt()?;
    controller.restart()?;
    Ok(controller)
}

/// Capabilities, if we can work with them.
fn usable_cap(registers: &Registers) -> Result<Cap, NvmeError> {
    let cap = registers.cap()?;
    let unusable = |reason: String| NvmeError::Unusable { controller: registers.controller.clone(), reason };
    if !cap.supports_nvm() {
        return Err(unusable("it has no NVM command set, so it stores no blocks".to_owned()));
    }
    if !cap.supports_page_shift(PAGE_BYTES.trailing_zeros()) {
        let least = 1u64 << (12 + u32::from(cap.mpsmin()));
        return Err(unusable(format!(
            "its smallest memory page has {least} bytes, and {PAGE_BYTES} are needed"
        )));
    }
    if cap.max_queue_entries() < 2 {
        return Err(unusable("its queues have fewer than two entries (CAP.MQES)".to_owned()));
    }
    Ok(cap)
}

impl Controller {
    /// Stops the controller: the barrier for everything at once. When it returns well, no command of any lane names memory
    /// any more, and no old queue works again.
    ///
    /// The controller is disabled (NVMe 2.0c 3.7.2); when it does not do that in its time, the function is reset. When even that
    /// fails, dropping the controller, and with it the function, is the barrier that is left.
    pub fn halt(&mut self) -> Result<(), NvmeError> {
        self.link.end_life();
        if self.state == State::Halted {
            return Ok(());
        }
        if let Err(error) = self.disable() {
            tracing::warn!(%error, "the controller cannot be disabled; resetting the function");
            if matches!(error, NvmeError::Gone { .. }) {
                self.mark_gone();
            }
            // A function behind a contained error comes back with this, an unplugged one does not.
            let reset = self.function.reset().and_then(|()| self.function.enable());
            reset.map_err(|failure| match error {
                NvmeError::Gone { .. } => error,
                _ => failure.into(),
            })?;
            // They went with the reset.
            self.vectors.clear();
        }
        self.link.set_gone(false);
        self.state = State::Halted;
        Ok(())
    }

    /// Clears `CC.EN` and waits for `CSTS.RDY` to follow.
    fn disable(&mut self) -> Result<(), NvmeError> {
        let registers = &self.registers;
        let timeout = registers.ready_timeout(registers.cap()?)?;
        let cc = registers.cc()?;
        if cc.en() && !registers.csts()?.cfs() {
            // Disabling in the middle of enabling is not defined (NVMe 2.0c 3.1.3.5): let it become ready, or fail to.
            let _ =
                registers.wait(&*self.clock, timeout, "becoming ready", |csts| Ok(csts.rdy() || csts.cfs()));
        }
        if cc.en() {
            registers.set_cc(cc.with_en(false))?;
        }
        registers.wait(&*self.clock, timeout, "disabling (CSTS.RDY stays 1)", |csts| Ok(!csts.rdy()))?;
        // A reset clears it, unless the controller is past that.
        if registers.csts()?.cfs() { Err(registers.fatal("disabling")) } else { Ok(()) }
    }

    /// Brings a halted controller up again, and says what was lost. [`Self::vectors`] may be others than before.
    pub fn restart(&mut self) -> Result<Lost, NvmeError> {
        if self.state == State::Running {
            return Ok(Lost::default());
        }
        if self.state != State::Halted {
            self.halt()?;
        }
        let outcome = self.bring_up();
        if outcome.is_err() {
            // Whatever it is doing, it may have been enabled.
            self.state = State::Failed;
        }
        self.note(outcome)?;
        Ok(Lost { queues: self.queues.take() })
    }

    /// [`Self::halt`], then [`Self::restart`].
    pub fn reset(&mut self) -> Result<Lost, NvmeError> {
        self.halt()?;
        self.restart()
    }

    /// NVMe 2.0c 3.5.1, from step 2 on.
    fn bring_up(&mut self) -> Result<(), NvmeError> {
        self.cap = usable_cap(&self.registers)?;
        if self.vectors.is_empty() {
            let count = self.options.vectors.min(self.function.vectors_max());
            if count > 0 {
                self.vectors = self.function.enable_vectors(count)?;
            }
        }
        // The last life's queue goes only now: nothing reaches it since the halt.
        self.admin = AdminQueue::new(&self.domain, &self.registers.bar, self.cap.dstrd())?;
        self.registers.set_admin_queues(
            ADMIN_ENTRIES,
            self.admin.submission_iova(),
            self.admin.completion_iova(),
        )?;
        let cc = Cc::new()
            .with_css(if self.cap.css() & CSS_NVM != 0 { SELECT_NVM } else { SELECT_ALL })
            .with_mps(0)
            .with_ams(0)
            .with_iosqes(SUBMISSION_ENTRY_SHIFT)
            .with_iocqes(COMPLETION_ENTRY_SHIFT);
        self.registers.set_cc(cc)?;
        self.registers.set_cc(cc.with_en(true))?;
        self.state = State::Running;
        let timeout = self.registers.ready_timeout(self.cap)?;
        let registers = &self.registers;
        let ready = registers.wait(&*self.clock, timeout, "enabling (CSTS.RDY stays 0)", |csts| {
            if csts.cfs() { Err(registers.fatal("enabling")) } else { Ok(csts.rdy()) }
        });
        self.note(ready)?;
        self.identify()?;
        self.grant_queues()?;
        self.listen()?;
        self.rescan_namespaces()
    }

    /// Who the controller is and what it can do.
    fn identify(&mut self) -> Result<(), NvmeError> {
        let address = self.admin.page_iova();
        self.command("Identify Controller", SubmissionEntry::identify(CNS_CONTROLLER, 0, address))?;
        let identify: IdentifyController = self.admin.read_page(0).unwrap_or_default();
        let version = self.registers.version()?;
        if !IO_CONTROLLER.contains(&identify.cntrltype) {
            return Err(self.unusable("it is an administrative or discovery controller, without I/O queues"));
        }
        let holds = |sizes: u8, shift: u8| (sizes & 0xf) <= shift && shift <= sizes >> 4;
        if !holds(identify.sqes, SUBMISSION_ENTRY_SHIFT) || !holds(identify.cqes, COMPLETION_ENTRY_SHIFT) {
            return Err(self.unusable("it does not take queue entries of 64 and 16 bytes"));
        }
        let nvm = self.identify_nvm(version)?;
        self.allowance = Allowance::new(
            self.cap,
            &identify,
            nvm.as_ref(),
            self.options.transfer_bytes_max,
            self.options.sgl,
        );
        let (admin, sanitize, fna) =
            (identify.optional_admin(), identify.sanitize(), Fna::from_bits(identify.fna));
        self.abilities = Abilities {
            version,
            nn: identify.nn.get(),
            shutdown: Duration::from_micros(u64::from(identify.rtd3e.get())),
            crypto_format: fna.crypto_erase(),
            format: admin.format(),
            sanitize,
            namespace_notices: identify.oaes.get() & NAMESPACE_NOTICES != 0,
        };
        self.info = Info {
            serial: identify.serial().to_owned(),
            model: identify.model().to_owned(),
            firmware: identify.firmware().to_owned(),
            version: format!("{}.{}.{}", version.major(), version.minor(), version.tertiary()),
            depth_max: self.cap.max_queue_entries() - 1,
            transfer_bytes_max: self.allowance.transfer_bytes_max,
            sgl: self.allowance.sgl_align_bytes.is_some(),
            volatile_cache: identify.write_cache().present(),
            format: admin.format(),
            sanitize_block_erase: sanitize.block_erase(),
            sanitize_crypto_erase: sanitize.crypto_erase(),
            format_affects_all: fna.format_all() || fna.erase_all(),
            capacity_bytes: identify.tnvmcap.get(),
            ..Info::default()
        };
        Ok(())
    }

    /// What the controller says of the NVM command set; nothing before version 2.0, or when it does not care to.
    fn identify_nvm(&mut self, version: Version) -> Result<Option<IdentifyControllerNvm>, NvmeError> {
        if version < Version::new().with_major(2) {
            return Ok(None);
        }
        // The command set identifier, in dword 11, is 0: NVM.
        let entry = SubmissionEntry::identify(CNS_CONTROLLER_OF_SET, 0, self.admin.page_iova());
        let answer = self.execute("Identify Controller", entry, self.options.admin_timeout)?;
        Ok(if answer.is_ok() { self.admin.read_page(0) } else { None })
    }

    /// Number of Queues (NVMe 2.0c 5.27.1.5), bounded by the doorbells that BAR 0 has.
    fn grant_queues(&mut self) -> Result<(), NvmeError> {
        let asked = self.options.queue_pairs.clamp(1, u16::MAX - 1);
        let value = feature::QueueCount::new().with_submission(asked - 1).with_completion(asked - 1);
        let command = SubmissionEntry::set_features(feature::NUMBER_OF_QUEUES, 0, value.into_bits());
        let granted =
            feature::QueueCount::from_bits(self.command("Set Features (Number of Queues)", command)?);
        let (bar, dstrd) = (&self.registers.bar, self.cap.dstrd());
        // Doorbells ascend, so the highest queue that has both is found by halving.
        let has_doorbells = |id: u16| bar.doorbell(completion_doorbell(id, dstrd)).is_ok();
        let (mut most, mut beyond) = (0u16, asked + 1);
        while beyond - most > 1 {
            let middle = most + (beyond - most) / 2;
            if has_doorbells(middle) { most = middle } else { beyond = middle }
        }
        self.queues.lanes_max = granted.submission().saturating_add(1).min(most);
        self.queues.queues_max = granted.completion().saturating_add(1).min(most);
        self.info.lanes_max = self.queues.lanes_max;
        self.info.queues_max = self.queues.queues_max;
        if most == 0 {
            return Err(self.unusable("its register window has no doorbell for an I/O queue"));
        }
        Ok(())
    }

    /// Looks at all namespaces anew.
    pub fn rescan_namespaces(&mut self) -> Result<(), NvmeError> {
        let (mut served, mut skipped) = (Vec::new(), Vec::new());
        for nsid in self.active_namespaces()? {
            let address = self.admin.page_iova();
            let entry = SubmissionEntry::identify(CNS_NAMESPACE, nsid, address);
            let skip = |reason: String| super::Skipped { id: nsid, reason, formats: Vec::new() };
            if let Err(status) = self.execute("Identify Namespace", entry, self.options.admin_timeout)? {
                skipped.push(skip(format!("it cannot be identified: {status}")));
                continue;
            }
            let identify: IdentifyNamespace = self.admin.read_page(0).unwrap_or_default();
            if identify.nsze.get() == 0 {
                continue;
            }
            let names = self.namespace_names(nsid)?;
            match self.allowance.namespace(nsid, &identify, names) {
                Ok(_) if served.len() == NAMESPACES_MAX => {
                    skipped.push(skip(format!("only the first {NAMESPACES_MAX} namespaces are served")));
                }
                Ok(namespace) => served.push(namespace),
                Err(note) => skipped.push(note),
            }
        }
        for note in &skipped {
            tracing::info!(controller = %self.registers.controller, namespace = note.id, reason = %note.reason, "namespace left out");
        }
        self.link.set_shapes(served.iter().map(|namespace| (namespace.id, namespace.shape)));
        (self.namespaces, self.skipped) = (served, skipped);
        Ok(())
    }

    /// Identifiers of the active namespaces; where the controller has no list (before 1.1), all that there may be.
    fn active_namespaces(&mut self) -> Result<Vec<u32>, NvmeError> {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let entry = SubmissionEntry::identify(CNS_ACTIVE_NAMESPACES, after, self.admin.page_iova());
            let answer = self.execute("Identify (active namespaces)", entry, self.options.admin_timeout)?;
            if answer.is_err() {
                return Ok((1..=self.abilities.nn.min(SCAN_MAX)).collect());
            }
            let list: NamespaceList = self.admin.read_page(0).unwrap_or_default();
            let start = found.len();
            // Ascending, or it would have no end.
            found.extend(list.iter().filter(|&nsid| nsid > after && nsid <= NSID_MAX));
            let full = found.len() - start == list.nsids.len();
            match found.last() {
                Some(&last) if full && found.len() < NAMESPACES_MAX * 8 => after = last,
                _ => return Ok(found),
            }
        }
    }

    /// What the identification descriptors say; nothing before version 1.3.
    fn namespace_names(&mut self, nsid: u32) -> Result<Names, NvmeError> {
        if self.abilities.version < Version::new().with_major(1).with_minor(3) {
            return Ok(Names::default());
        }
        let entry = SubmissionEntry::identify(CNS_NAMESPACE_DESCRIPTORS, nsid, self.admin.page_iova());
        let answer = self.execute("Identify (descriptors)", entry, self.options.admin_timeout)?;
        let list: [u8; IDENTIFY_BYTES] = self.admin.read_page(0).unwrap_or([0; IDENTIFY_BYTES]);
        Ok(if answer.is_ok() { Names::parse(&list) } else { Names::default() })
    }

    fn unusable(&self, reason: &str) -> NvmeError {
        NvmeError::Unusable { controller: self.name(), reason: reason.to_owned() }
    }
}

/// `OAES` bit 8: namespace attribute notices.
const NAMESPACE_NOTICES: u32 = 1 << 8;
