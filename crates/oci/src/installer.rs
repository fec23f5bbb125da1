//! An image made from another one: its first layer kept as it is, one layer of ours on top.

use std::collections::BTreeMap;

use common::{Result, Sha256};

use crate::layer::Layer;
use crate::layout::{Image, Layout};
use crate::time::rfc3339;
use crate::types::{History, RunConfig};
use crate::writer::{NewImage, Writer};

/// What is new about the image.
#[derive(Clone, Debug)]
pub struct Append<'a> {
    /// Names of the new image.
    pub names: &'a [String],
    /// When it was made, in seconds since the epoch.
    pub created: u64,
    /// By what, for the history.
    pub created_by: &'a str,
    /// Labels added to those of the base, or put in their place.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Writes `base` (of `layout`) with `layer` on top into `writer`, and gives the manifest's digest.
///
/// A base of two layers is an installer already: its second layer holds the artifacts and is replaced, as Talos's imager does.
/// How a container is started stays: entrypoint, environment, working directory and whatever else stands in `config`. Of what stands
/// beside it only the history of the kept layers is taken over; author, variant and version of the operating system are not.
///
/// # Errors
/// As [`Writer::copy`] and [`Writer::image`].
pub fn append(writer: &mut Writer, layout: &Layout, base: &Image, layer: &Layer, new: Append<'_>) -> Result<Sha256> {
    let kept = if base.layers.len() == 2 { &base.layers[..1] } else { &base.layers[..] };
    for layer in kept {
        writer.copy(layout, &layer.descriptor)?;
    }
    let mut labels = base.config.config.labels.clone().unwrap_or_default();
    labels.extend(new.labels);
    let mut history = kept_history(&base.config.history, kept.len());
    history.push(History {
        created: Some(rfc3339(new.created)),
        created_by: Some(new.created_by.to_owned()),
        empty_layer: false,
    });
    let layers: Vec<_> = kept.iter().chain([layer]).cloned().collect();
    let labels = (!labels.is_empty()).then_some(labels);
    let config = RunConfig { labels, ..base.config.config.clone() };
    let annotations = new.annotations;
    writer.image(&NewImage { names: new.names, created: new.created, config, layers: &layers, history, annotations })
}

/// The history of the first `layers` layers: steps that made none are kept as long as layers below are; a history that
/// does not fit the layers is made anew, for readers match the two by number.
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
