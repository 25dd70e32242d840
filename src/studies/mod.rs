//! Studies: what looks at models and micrographs, but is no stage of the pipeline.

pub mod ablation;
pub mod check;
pub mod extract;
pub mod maps;
pub mod mask;
pub mod packing;
pub mod radius;
