use serde::{Deserialize, Serialize};

/// How much of what devices were calibrated to do may be reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Admission {
    /// Reservations may add up to this many times what a device does.
    pub overcommit: Overcommit,
    /// Devices for which that is another.
    pub devices: Vec<DeviceAdmission>,
}

/// One device that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAdmission {
    /// Name or PCI address.
    pub device: String,
    /// In place of the one for all.
    pub overcommit: Overcommit,
}

impl Admission {
    /// The factor for a device.
    #[must_use]
    pub fn overcommit_of(&self, device: &str) -> Overcommit {
        let own = self.devices.iter().find(|own| own.device == device);
        own.map_or(self.overcommit, |own| own.overcommit)
    }
}

/// An over-commit factor, in thousandths; a file has it as a number such as `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Overcommit {
    permille: u32,
}

/// A factor that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "overcommit is {0}: write a factor from 0 to 100; 1.0 promises what the device was calibrated to do, and no more"
)]
pub struct OvercommitError(f64);

impl Overcommit {
    /// The largest, in thousandths.
    const PERMILLE_MAX: u32 = 100_000;

    /// A factor of so many thousandths, at most 100 000.
    #[must_use]
    pub fn from_permille(permille: u32) -> Self {
        Self { permille: permille.min(Self::PERMILLE_MAX) }
    }

    /// In thousandths.
    #[must_use]
    pub fn permille(self) -> u32 {
        self.permille
    }
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { permille: 1000 }
    }
}

impl TryFrom<f64> for Overcommit {
    type Error = OvercommitError;

    fn try_from(factor: f64) -> Result<Self, OvercommitError> {
        let permille = factor * 1000.0;
        if (0.0..=f64::from(Self::PERMILLE_MAX)).contains(&permille) {
            // Within the range of a u32, as was just seen.
            Ok(Self { permille: permille.round() as u32 })
        } else {
            Err(OvercommitError(factor))
        }
    }
}

impl From<Overcommit> for f64 {
    fn from(factor: Overcommit) -> Self {
        Self::from(factor.permille) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<Admission, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_device_may_have_a_factor_of_its_own() {
        let text = "overcommit = 1.25\ndevices = [{ device = \"0000:03:00.0\", overcommit = 2.0 }]";
        let admission = given(text).unwrap();
        assert_eq!(admission.overcommit_of("0000:03:00.0").permille(), 2000);
        assert_eq!(admission.overcommit_of("sim0").permille(), 1250);
        assert_eq!(given("").unwrap().overcommit_of("sim0").permille(), 1000);
    }

    #[test]
    fn a_factor_that_makes_no_sense_is_refused() {
        for text in ["overcommit = -0.5", "overcommit = 100.5", "overcommit = nan"] {
            let error = given(text).unwrap_err();
            assert!(error.contains("write a factor from 0 to 100"), "{error}");
        }
        assert!(given("devices = [{ device = \"a\", overcommit = 1.0, share = 1 }]").is_err());
    }
}
