//! Pods of one container, described as data.

use super::images::CONTAINER;
use serde_json::{Map, Value, json};

/// Which seccomp profile a pod asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// None: the kubelet's default.
    #[default]
    Unset,
    /// That of the container runtime.
    Runtime,
    /// The file `profiles/<name>` on the node.
    Local(&'static str),
}

/// A pod.
#[derive(Clone, Debug, Default)]
pub struct Pod<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its container does: arguments of the guest's program `container`.
    pub arguments: &'a [&'a str],
    /// Requested resources, which are its limits too.
    pub resources: &'a [(&'a str, &'a str)],
    /// Its seccomp profile.
    pub seccomp: Seccomp,
    /// Mount points of volumes, and their media: `HugePages`, or empty for the node's disk.
    pub volumes: &'a [(&'a str, &'a str)],
}

impl Pod<'_> {
    /// Returns the object. It runs once, and stays on a node that does not answer for a while.
    #[must_use]
    pub fn object(&self) -> Value {
        let resources: Map<String, Value> =
            self.resources.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect();
        let named = || self.volumes.iter().enumerate().map(|(number, volume)| (format!("volume{number}"), volume));
        let volumes: Vec<_> =
            named().map(|(name, (_, medium))| json!({"name": name, "emptyDir": {"medium": medium}})).collect();
        let mounts: Vec<_> = named().map(|(name, (path, _))| json!({"name": name, "mountPath": path})).collect();
        let profile = match self.seccomp {
            Seccomp::Unset => Value::Null,
            Seccomp::Runtime => json!({"type": "RuntimeDefault"}),
            Seccomp::Local(name) => json!({"type": "Localhost", "localhostProfile": format!("profiles/{name}")}),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "tolerations": [{"operator": "Exists"}],
                "securityContext": {"seccompProfile": profile},
                "volumes": volumes,
                "containers": [{
                    "name": "main",
                    "image": CONTAINER,
                    "args": self.arguments,
                    "resources": {"requests": resources, "limits": resources},
                    "volumeMounts": mounts,
                }],
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_guaranteed_what_it_asks_for() {
        let pod = Pod {
            name: "a",
            arguments: &["huge-pages", "1"],
            resources: &[("cpu", "1"), ("hugepages-2Mi", "16Mi")],
            seccomp: Seccomp::Local("b.json"),
            volumes: &[("/pages", "HugePages")],
        };
        let spec = &pod.object()["spec"];
        let container = &spec["containers"][0];
        assert_eq!(container["resources"]["requests"], json!({"cpu": "1", "hugepages-2Mi": "16Mi"}));
        assert_eq!(container["resources"]["requests"], container["resources"]["limits"]);
        assert_eq!(spec["volumes"], json!([{"name": "volume0", "emptyDir": {"medium": "HugePages"}}]));
        assert_eq!(container["volumeMounts"], json!([{"name": "volume0", "mountPath": "/pages"}]));
        assert_eq!(spec["securityContext"]["seccompProfile"]["localhostProfile"], "profiles/b.json");
        assert!(Pod::default().object()["spec"]["securityContext"]["seccompProfile"].is_null());
    }
}
