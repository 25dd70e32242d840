//! Reports: what was computed → tables, curves and pictures for people.

pub mod curves;
pub mod overlay;
pub mod page;
pub mod panel;
mod plot;
mod text;
