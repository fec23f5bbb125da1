//! Finds and reads the file that says what to build.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use build::Config;
use build::config::FILE;
use common::{Error, Result};

/// What to build if no option says otherwise.
#[derive(Debug)]
pub struct Found {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What it says, or the test build.
    pub config: Config,
}

/// Reads the file `given`, or the one in the current directory, if there is one.
pub fn find(given: Option<&Path>) -> Result<Found> {
    let path = given.unwrap_or(Path::new(FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Found { config: Config::parse(path, &text)?, path: Some(path.to_owned()) }),
        Err(e) if given.is_none() && e.kind() == ErrorKind::NotFound => {
            Ok(Found { path: None, config: Config::default() })
        }
        Err(e) => Err(Error::io("cannot read the build file", path, &e)),
    }
}
