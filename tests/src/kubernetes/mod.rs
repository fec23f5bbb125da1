//! Kubernetes on a node with real Talos: its programs, built from Go modules (`tests/kubernetes`), their images in a registry, and a cluster of
//! one node.

mod cluster;
mod images;
mod kubectl;
mod pods;
mod programs;

pub use cluster::{CPUS, Cluster, POOL};
pub use kubectl::Kubectl;
pub use pods::{Pod, Seccomp};
pub use programs::Programs;
