use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::PathBuf;

/// Where cargo put the library of a crate that this test depends on, or is a test of: beside the test, or one above.
///
/// None when it is not there: the crate has no `cdylib`, or is no dependency of the test.
#[must_use]
pub fn built_beside_this(crate_name: &str) -> Option<PathBuf> {
    let file = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", crate_name.replace('-', "_"));
    let test = std::env::current_exe().ok()?;
    test.ancestors().skip(1).take(2).map(|directory| directory.join(&file)).find(|path| path.exists())
}
