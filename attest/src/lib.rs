//! Signatures of images, bills of materials and provenance, in the formats that others verify.
