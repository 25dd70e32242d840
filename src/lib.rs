//! `picker` finds protein particles in cryo-EM micrographs.
//!
//! ```text
//!  micrographs/*.mrc                                              coordinates/*.star|csv|box|cbox|txt
//!         │ read                                                                │ read
//!         ▼                                                                     ▼
//!   micrograph ──▶ preprocess ──────────▶ labels (disk masks, patches) ──▶ train
//!         │                               ▲ pseudo-labels                       │ model
//!         │                               └── self-training rounds ◀────────────┤
//!         │                                                                     ▼
//!         └──────────────▶ score (map of log-odds) ──▶ pick (peaks, NMS) ──▶ coords ──▶ RELION
//!                                                                 └──▶ eval (precision, recall, F1)
//! ```
//!
//! Pixel index = pixel centre; x = column, y = file row, as RELION reads the file. A coordinate
//! says its frame in its name: `x_mic_px` in the micrograph, `x_work_px` at the working scale.

pub mod error;
pub mod publish;
pub mod units;

pub mod micrograph;
pub mod coords;
pub mod star;

pub mod preprocess;
pub mod labels;
pub mod pick;
pub mod eval;
pub mod radius;
pub mod mask;
pub mod simulate;

pub mod model;
pub mod score;
pub mod detect;
pub mod train;
pub mod scale;

pub mod settings;
pub mod relion;
pub mod slurm;
pub mod report;
pub mod run;

pub mod stages;
pub mod studies;

pub mod inspect;

pub mod cli;
