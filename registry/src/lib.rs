//! OCI registries (distribution-spec 1.1): push, pull, credentials.
