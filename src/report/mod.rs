//! Report.

pub mod overlay;
