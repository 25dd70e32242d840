//! The `picker` program.

mod memory;

use std::process::ExitCode;

fn main() -> ExitCode {
    picker::model::device::load_cuda();
    picker::cli::main()
}

// glibc 2.35 gave `hypot` a new symbol version, which a program that is linked there would require.
// The old one has the same results and is in every glibc; the linker sends all calls here (`--wrap`
// in build.rs).
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[allow(unsafe_code)] // A jump.
mod old_hypot {
    std::arch::global_asm!(
        ".symver libm_hypot, hypot@GLIBC_2.2.5",
        ".globl __wrap_hypot",
        ".type __wrap_hypot, @function",
        "__wrap_hypot:",
        "jmp libm_hypot@PLT",
    );
}

/// Address space that the program needs at least, most of it for libtorch.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LEAST_ADDRESS_SPACE: u64 = 600 << 20;

/// Runs before the initialisers of libtorch, which abort where they get no memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // The loader calls it once, with libc in place.
#[used]
#[unsafe(link_section = ".preinit_array")]
static CHECK_ADDRESS_SPACE: extern "C" fn() = check_address_space;

/// Ends with one line where the limit of the address space is too low to begin with.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // Plain calls of libc with memory of this function.
extern "C" fn check_address_space() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let line = "error: the address space is limited to less than 600 MB, in which libtorch cannot \
                start\nhint: raise the limit: `ulimit -v unlimited`, or --mem of the batch system\n";
    unsafe {
        if libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) == 0
            && limit.rlim_cur < LEAST_ADDRESS_SPACE
        {
            libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
            libc::_exit(1);
        }
    }
}
