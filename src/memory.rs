//! Where the program's memory comes from.

use std::alloc::{GlobalAlloc, Layout, System};

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: SmallApart = SmallApart;

/// Keeps small values away from the heap of images and of the network's arrays.
///
/// There, a small value that is kept for the whole run may be put where an array was freed, and the
/// next array of that size no longer fits: one run in six grew by 65 to 320 MB.
struct SmallApart;

/// First size that is not small, in bytes.
const LARGE: usize = 16 << 10;

fn allocator(size: usize) -> &'static dyn GlobalAlloc {
    if size < LARGE { &MiMalloc } else { &System }
}

#[allow(unsafe_code)] // The size in the layout names the allocator that the memory came from.
unsafe impl GlobalAlloc for SmallApart {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { allocator(layout.size()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { allocator(layout.size()).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { allocator(layout.size()).dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if (layout.size() < LARGE) == (size < LARGE) {
            return unsafe { allocator(size).realloc(memory, layout, size) };
        }
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(memory, size.min(layout.size()));
                self.dealloc(memory, layout);
            }
            moved
        }
    }
}

/// Runs before the initialiser of mimalloc; the number is its place among the initialisers.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // The loader calls it once, with libc in place.
#[used]
#[unsafe(link_section = ".init_array.00101")]
static SET_UP: extern "C" fn() = set_up;

/// Has mimalloc reserve no address space, of which a limit may leave little (it takes 1 GB
/// otherwise), and has libc's allocator keep what was given back for the next micrograph of the
/// same size.
///
/// By default glibc maps every large array anew, and the system clears each page of it first: a
/// tenth of the time of picking.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)] // Names and numbers go in, nothing comes out, and no other thread runs yet.
extern "C" fn set_up() {
    let keep_up_to = std::ffi::c_int::MAX;
    unsafe { libc::setenv(c"MIMALLOC_ARENA_RESERVE".as_ptr(), c"0".as_ptr(), 1) };
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, keep_up_to),
        (libc::M_TOP_PAD, 64 << 20),
    ] {
        unsafe { libc::mallopt(parameter, value) };
    }
}
