use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every method that changes something may say beside its own parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Names the request. A repeat by the same user gives the first answer and changes nothing more; up to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The generation that the object must have, or the change is refused with `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<u64>,
    /// Answer as if, and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Answer with the job as soon as it has begun, not at its end. Only of methods that can take long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

impl Change {
    /// The names of the parameters, as they stand beside a method's own.
    pub const FIELDS: [&'static str; 4] = ["request_id", "expected_generation", "dry_run", "background"];
    /// Longest request id, bytes.
    pub const REQUEST_ID_BYTES_MAX: usize = 128;
}
