//! OCI image layouts and deterministic layers.
