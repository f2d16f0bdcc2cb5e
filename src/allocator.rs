//! How freed memory is given back to the system.

/// `mi_option_purge_delay`: unused memory goes back to the system after so many milliseconds; the areas that it is cut
/// from, after ten times as long (`mi_option_arena_purge_mult`).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// A minute: from one stage to the next, and from one query to the next, the same memory is used again.
const MILLISECONDS: std::ffi::c_long = 60_000;

/// Keeps freed memory for minutes instead of a tenth of a second. Taken from the system again, every page must be
/// cleared, and on virtual machines that took two thirds of the time of queries that exchange gigabytes. What was set
/// in the environment (`MIMALLOC_PURGE_DELAY`) counts more.
#[allow(unsafe_code)]
pub fn keep_freed_memory() {
    // SAFETY: mimalloc allows an option to be set at any time and from any thread, and checks its number.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, MILLISECONDS) }
}
