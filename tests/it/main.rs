//! Integration tests: one binary, since every test binary links libtorch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod ablate;
mod architecture;
mod bad_input;
mod book;
mod browser;
mod coordinates;
mod cut;
mod default_model;
mod evaluate;
mod folders;
mod foreign;
mod inspect;
mod inspect_picks;
mod inspect_shown;
mod kept;
mod learning;
mod library;
mod manner;
mod maps;
mod micrographs;
mod mutated;
mod networks;
mod outdated;
mod external_job;
mod pipeline;
mod readers;
mod readme;
mod relion;
mod run;
mod shards;
mod simulate;
mod slurm;
mod support;
mod told;
mod truth;
