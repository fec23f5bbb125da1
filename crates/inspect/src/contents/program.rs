//! Opens UEFI programs that are unified kernel images.

use common::{Class, Error, Result};
use formats::pe::Pe;

use super::walk::file_of;
use super::{Contents, Uki};
use formats::Budget;

impl Contents {
    /// Reads a UEFI program. One with a command line and a kernel is a unified kernel image.
    pub(super) fn program(&mut self, path: &str, bytes: &[u8], depth: u32, budget: &mut Budget) -> Result<()> {
        let pe = Pe::parse(bytes)?;
        let section = |name: &str| pe.sections().iter().find(|s| s.name == name).map(|s| pe.content(s));
        let text = |name: &str| section(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (Some(command_line), Some(_)) = (text(".cmdline"), section(".linux")) else { return Ok(()) };
        let os_release = text(".osrel").unwrap_or_default();
        let os = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        self.ukis.push(Uki {
            path: path.to_owned(),
            command_line,
            release: text(".uname"),
            os: os.map(|name| name.trim_matches('"').to_owned()),
            signed: pe.is_signed()?,
        });
        if depth == 0 {
            return Err(Error::new(Class::UntrustedData, "nested too deeply to be opened"));
        }
        self.opened.insert(path.to_owned());
        self.sections(path, &pe, depth - 1, budget)
    }

    /// Opens kernel and initramfs; records size and digest of the other sections.
    fn sections(&mut self, path: &str, pe: &Pe<'_>, depth: u32, budget: &mut Budget) -> Result<()> {
        for (at, section) in pe.sections().iter().enumerate() {
            let content = pe.content(section);
            let inside = format!("{path}:{}", section.name);
            budget.enter(&inside)?;
            // Sections may share their bytes.
            budget.spend(content.len() as u64)?;
            let is_opened = [".linux", ".initrd"].contains(&section.name.as_str());
            if is_opened && !self.files.contains_key(&inside) {
                self.open(&inside, content, depth, budget);
                continue;
            }
            if is_opened {
                self.problem(path, format!("only the first of several sections {} is opened", section.name));
            }
            // Section names have at most eight bytes, so this name is unique.
            let is_taken = is_opened || self.sections.contains_key(&inside);
            let name = if is_taken { format!("{inside} (section {at})") } else { inside };
            self.sections.insert(name, file_of(content));
        }
        Ok(())
    }
}
