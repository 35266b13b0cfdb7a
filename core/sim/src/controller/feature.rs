//! Get and Set Features.

use vfiomux_spec::nvme::feature::{self, QueueCount};
use vfiomux_spec::nvme::log::EventKinds;
use vfiomux_spec::nvme::{Status, SubmissionEntry};

use super::{Controller, Outcome};
use crate::DeviceSpec;

/// Identifiers run up to here; those that are supported have a value.
const FEATURES: usize = 0x0c;
const SAVE: u32 = 1 << 31;

/// Current values.
#[derive(Debug)]
pub(super) struct Features {
    values: [Option<u32>; FEATURES],
}

impl Features {
    pub(super) fn new(spec: &DeviceSpec) -> Self {
        let mut features = Self { values: [None; FEATURES] };
        let has_cache = spec.cache || spec.file.is_some();
        let pairs = spec.queues - 1;
        for (feature, value) in [
            (feature::ARBITRATION, 0),
            (feature::POWER_MANAGEMENT, 0),
            (feature::TEMPERATURE_THRESHOLD, 343),
            (feature::ERROR_RECOVERY, 0),
            (
                feature::NUMBER_OF_QUEUES,
                QueueCount::new().with_submission(pairs).with_completion(pairs).into_bits(),
            ),
            (feature::INTERRUPT_COALESCING, 0),
            (feature::INTERRUPT_VECTOR, 0),
            (feature::WRITE_ATOMICITY, 0),
            (feature::ASYNC_EVENT_CONFIG, 0),
        ] {
            features.set(feature, value);
        }
        if has_cache {
            features.set(feature::VOLATILE_WRITE_CACHE, 1);
        }
        features
    }

    fn get(&self, feature: u8) -> Option<u32> {
        self.values.get(usize::from(feature)).copied().flatten()
    }

    fn set(&mut self, feature: u8, value: u32) {
        if let Some(slot) = self.values.get_mut(usize::from(feature)) {
            *slot = Some(value);
        }
    }

    pub(super) fn events(&self) -> EventKinds {
        EventKinds::from_bits(self.get(feature::ASYNC_EVENT_CONFIG).unwrap_or(0))
    }
}

impl Controller {
    pub(super) fn set_features(&mut self, entry: &SubmissionEntry) -> Outcome {
        let (dword10, value) = (entry.cdw10.get(), entry.cdw11.get());
        let feature = (dword10 & 0xff) as u8;
        if self.features.get(feature).is_none() {
            return Status::INVALID_FIELD.into();
        }
        if dword10 & SAVE != 0 {
            return Status::FEATURE_NOT_SAVEABLE.into();
        }
        match feature {
            feature::NUMBER_OF_QUEUES => return self.grant_queues(QueueCount::from_bits(value)),
            feature::VOLATILE_WRITE_CACHE => {
                let on = value & 1 != 0;
                if !on {
                    self.flush_all();
                }
                for namespace in &mut self.namespaces {
                    namespace.set_cached(on);
                }
            }
            _ => {}
        }
        self.features.set(feature, value);
        Outcome::result(0)
    }

    /// Grants as many queues as are asked for and there are (NVMe 2.0c 5.27.1.5).
    fn grant_queues(&mut self, asked: QueueCount) -> Outcome {
        if asked.submission() == u16::MAX || asked.completion() == u16::MAX {
            return Status::INVALID_FIELD.into();
        }
        if self.cqs.iter().skip(1).any(Option::is_some) {
            return Status::COMMAND_SEQUENCE.into();
        }
        let most = self.spec.queues - 1;
        let granted = QueueCount::new()
            .with_submission(asked.submission().min(most))
            .with_completion(asked.completion().min(most))
            .into_bits();
        self.features.set(feature::NUMBER_OF_QUEUES, granted);
        Outcome::result(granted)
    }

    pub(super) fn get_features(&self, entry: &SubmissionEntry) -> Outcome {
        let dword10 = entry.cdw10.get();
        let select = (dword10 >> 8) & 7;
        match self.features.get((dword10 & 0xff) as u8) {
            Some(value) if select == 0 => Outcome::result(value),
            _ => Status::INVALID_FIELD.into(),
        }
    }
}
