//! The image made from installer-base: its layers kept as they are, one layer of ours on top.

use common::time::rfc3339;
use common::{Result, Sha256};
use oci::types::{History, RunConfig};
use oci::{Layer, NewImage, Writer};

use crate::base_images::BaseImages;
use crate::installer::Installer;

/// By what a layer was made, for the history.
const CREATED_BY: &str = "solana-talos imager";

/// Writes the installer-base image of `base` with `layer` on top into `writer`, and gives the manifest's digest.
///
/// A base of two layers is an installer already: its second layer holds the artifacts and is replaced, as Talos's imager does.
/// How a container is started stays: entrypoint, environment, working directory, labels and whatever else is in `config`. Of the rest
/// only the history of the kept layers is taken over; author, variant and version of the operating system are not.
///
/// # Errors
/// As [`Writer::copy`] and [`Writer::image`].
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

/// As it is, but that a set of labels without any is left out.
fn run_config(base: &RunConfig) -> RunConfig {
    RunConfig { labels: base.labels.clone().filter(|labels| !labels.is_empty()), ..base.clone() }
}

/// The history of the first `layers` layers: steps that made none are kept as long as layers below are; a history that
/// does not fit the layers is written from nothing, for readers match the two by number.
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
    fn keeps_the_steps_of_the_layers_that_are_kept() {
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
    fn makes_a_history_that_fits() {
        assert_eq!(kept_history(&[], 2), vec![History::default(); 2]);
        assert_eq!(kept_history(&[step("one", false)], 2), vec![History::default(); 2]);
    }
}
