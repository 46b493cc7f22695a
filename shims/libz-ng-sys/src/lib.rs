//! The part of `libz-ng-sys` that `flate2` uses, served by the pure Rust `libz-rs-sys`, so that building Moat needs
//! no cmake. Moat itself compresses nothing; pingora-core only links this.
//!
//! The one difference between the two is the type of `zalloc` and `zfree`: plain function pointers here, `Option`s
//! there. Both have the same layout (a function pointer is never null), so a stream is passed on by pointer cast.
#![allow(non_camel_case_types, non_snake_case, clippy::missing_safety_doc)]
use core::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use core::mem::offset_of;
pub use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_FULL_FLUSH, Z_MEM_ERROR,
    Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END, Z_STREAM_ERROR, Z_SYNC_FLUSH, internal_state,
    zlibVersion,
};

pub type z_size = c_ulong;
pub type uInt = c_uint;
pub type alloc_func = unsafe extern "C" fn(*mut c_void, c_uint, c_uint) -> *mut c_void;
pub type free_func = unsafe extern "C" fn(*mut c_void, *mut c_void);

/// zlib's stream state, field for field `libz_rs_sys::z_stream`.
#[repr(C)]
pub struct z_stream {
    pub next_in: *mut u8,
    pub avail_in: c_uint,
    pub total_in: z_size,
    pub next_out: *mut u8,
    pub avail_out: c_uint,
    pub total_out: z_size,
    pub msg: *mut c_char,
    pub state: *mut internal_state,
    pub zalloc: alloc_func,
    pub zfree: free_func,
    pub opaque: *mut c_void,
    pub data_type: c_int,
    pub adler: z_size,
    pub reserved: c_ulong,
}

macro_rules! same_layout {
    ($($field:ident)*) => {
        const _: () = {
            assert!(size_of::<z_stream>() == size_of::<libz_rs_sys::z_stream>());
            assert!(align_of::<z_stream>() == align_of::<libz_rs_sys::z_stream>());
            $(assert!(offset_of!(z_stream, $field) == offset_of!(libz_rs_sys::z_stream, $field));)*
        };
    };
}
same_layout! {
    next_in avail_in total_in next_out avail_out total_out msg state zalloc zfree opaque data_type adler reserved
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        pub unsafe extern "C" fn $name(stream: *mut z_stream $(, $arg: $ty)*) -> c_int {
            // SAFETY: the caller keeps zlib's own contract, and the two stream types have one layout.
            unsafe { libz_rs_sys::$name(stream.cast() $(, $arg)*) }
        }
    )*};
}
forward! {
    deflate(flush: c_int);
    deflateEnd();
    deflateReset();
    deflateParams(level: c_int, strategy: c_int);
    deflateSetDictionary(dictionary: *const u8, length: c_uint);
    deflateInit2_(level: c_int, method: c_int, window_bits: c_int, mem_level: c_int, strategy: c_int, version: *const c_char, size: c_int);
    inflate(flush: c_int);
    inflateEnd();
    inflateReset2(window_bits: c_int);
    inflateSetDictionary(dictionary: *const u8, length: c_uint);
    inflateInit2_(window_bits: c_int, version: *const c_char, size: c_int);
}
