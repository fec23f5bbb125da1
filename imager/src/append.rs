//! Appends one layer to the installer-base image; its own layers are kept as they are.

use common::time::rfc3339;
use common::{Result, Sha256};
use oci::types::{History, RunConfig};
use oci::{Layer, NewImage, Writer};

use crate::base_images::BaseImages;
use crate::installer::Installer;

/// `created_by` of our layer in the image history.
const CREATED_BY: &str = "solana-talos imager";

/// Writes the installer-base image of `base` with `layer` on top into `writer` and returns the manifest digest.
///
/// A base with two layers is already an installer: its second layer contains the boot files and is replaced, as Talos's imager does.
/// Everything in `config` (entrypoint, environment, working directory, labels) and the history of the kept layers are copied; author,
/// variant and version of the operating system are not.
pub(crate) fn append(writer: &mut Writer, base: &BaseImages, layer: &Layer, new: &Installer<'_>) -> Result<Sha256> {
    let installer = &base.installer;
    let kept = if installer.layers.len() == 2 { &installer.layers[..1] } else { &installer.layers[..] };
    for layer in kept {
        writer.copy(&base.layout, &layer.descriptor)?;
    }
    let mut history = kept_history(&installer.config.history, kept.len());
    history.push(History {
        created: Some(rfc3339(new.created)),
        created_by: Some(CREATED_BY.to_owned()),
        empty_layer: false,
    });
    writer.image(&NewImage {
        names: new.names,
        created: new.created,
        config: run_config(&installer.config.config),
        layers: &kept.iter().chain([layer]).cloned().collect::<Vec<_>>(),
        history,
        annotations: new.annotations.clone(),
    })
}

/// Copies `base`, without an empty set of labels.
fn run_config(base: &RunConfig) -> RunConfig {
    RunConfig { labels: base.labels.clone().filter(|labels| !labels.is_empty()), ..base.clone() }
}

/// Returns the history of the first `layers` layers with the empty steps before and right after them. Readers match history and layers
/// by position, so a history that does not cover the layers is replaced by empty entries.
fn kept_history(history: &[History], layers: usize) -> Vec<History> {
    let mut kept = Vec::new();
    let mut made = 0;
    for step in history {
        if made == layers && !step.empty_layer {
            break;
        }
        made += usize::from(!step.empty_layer);
        kept.push(step.clone());
    }
    if made == layers { kept } else { vec![History::default(); layers] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, empty_layer: bool) -> History {
        History { created: None, created_by: Some(name.to_owned()), empty_layer }
    }

    #[test]
    fn history_of_kept_layers_is_kept() {
        let all = [
            step("env", true),
            step("rootfs", false),
            step("entrypoint", true),
            step("artifacts", false),
            step("late", true),
        ];
        assert_eq!(kept_history(&all, 1), all[..3]);
        assert_eq!(kept_history(&all, 2), all);
    }

    #[test]
    fn incomplete_history_is_replaced() {
        assert_eq!(kept_history(&[], 2), vec![History::default(); 2]);
        assert_eq!(kept_history(&[step("one", false)], 2), vec![History::default(); 2]);
    }
}
