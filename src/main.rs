//! The `picker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    picker::cli::main()
}

/// Has the allocator keep what was given back for the next micrograph of the same size.
///
/// By default glibc maps every large array anew, and the system clears each page of it first: a
/// tenth of the time of picking.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // Numbers go in, nothing comes out, and no other thread runs yet.
fn keep_memory() {
    let keep_up_to = std::ffi::c_int::MAX;
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, keep_up_to),
        (libc::M_TOP_PAD, 64 << 20),
    ] {
        unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
